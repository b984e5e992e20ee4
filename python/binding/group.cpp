// SPDX-License-Identifier: Apache-2.0
#include "group.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "arguments.hpp"
#include "binding.hpp"
#include "enums.hpp"

namespace crossdock::python {

namespace nb = nanobind;

namespace {

/// A callable that takes this rank's bytes and returns the list of all ranks' bytes.
AllGather all_gather_of(nb::handle callable, int rank, int num_ranks) {
  const auto shared = std::shared_ptr<nb::object>(new nb::object(nb::borrow(callable)), [](nb::object* last) {
    nb::gil_scoped_acquire gil;
    delete last;
  });
  return [shared, rank, num_ranks](const void* mine, std::size_t bytes, void* all) {
    nb::gil_scoped_acquire gil;
    const nb::object answers = (*shared)(nb::bytes(mine, bytes));
    if (nb::len(answers) != static_cast<std::size_t>(num_ranks))
      throw UsageError("Group on rank " + std::to_string(rank) + ": all_gather returned " +
                       std::to_string(nb::len(answers)) + " entries; must be the bytes of each of " +
                       std::to_string(num_ranks) + " ranks, in rank order");
    for (int r = 0; r < num_ranks; ++r) {
      const nb::object answer = answers[r];
      if (!nb::isinstance<nb::bytes>(answer) || nb::len(answer) != bytes)
        throw UsageError("Group on rank " + std::to_string(rank) + ": all_gather returned " +
                         nb::repr(answer.type()).c_str() + " of length " + std::to_string(nb::len(answer)) +
                         " for rank " + std::to_string(r) + "; must be " + std::to_string(bytes) + " bytes");
      std::memcpy(static_cast<char*>(all) + r * bytes, nb::cast<nb::bytes>(answer).c_str(), bytes);
    }
  };
}

Group form(int rank, int num_ranks, nb::handle meeting, const GroupOptions& options) {
  const ThreadTeam* team = nullptr;
  if (nb::try_cast(meeting, team) && team) {
    if (team->num_ranks() != num_ranks)
      throw UsageError("Group: the team has " + std::to_string(team->num_ranks()) + " ranks, not " +
                       std::to_string(num_ranks));
    nb::gil_scoped_release others_run;
    return Group::join(*team, rank, options);
  }
  if (nb::isinstance<nb::str>(meeting)) {
    const std::string name = nb::cast<std::string>(meeting);
    nb::gil_scoped_release others_run;
    return Group::rendezvous(name, rank, num_ranks, options);
  }
  if (!PyCallable_Check(meeting.ptr()))
    throw UsageError("Group: the meeting is neither a ThreadTeam, a name, nor a callable");
  AllGather all_gather = all_gather_of(meeting, rank, num_ranks);
  nb::gil_scoped_release others_run;
  return Group::join(rank, num_ranks, std::move(all_gather), options);
}

std::chrono::milliseconds deadline_of(double seconds) {
  if (!(seconds >= 0) || std::isinf(seconds))
    throw UsageError("Group: deadline = " + std::to_string(seconds) + " s; must be 0 (no limit) or more");
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(std::min(seconds, 1e12) * 1000)));
}

}  // namespace

PyGroup::PyGroup(int rank_, int num_ranks_, nb::handle meeting, const GroupOptions& options)
    : rank(rank_), num_ranks(num_ranks_), forks_(forks_so_far()) {
  group_ = std::make_unique<Group>(form(rank, num_ranks, meeting, options));
  backend = group_->backend();
  device = group_->device();
}

PyGroup::~PyGroup() {
  if (forked()) group_.release();
}

bool PyGroup::forked() const { return forks_ != forks_so_far(); }

void PyGroup::check(const char* call) const {
  check_not_forked(forks_, call);
  if (closed_)
    throw StateError(std::string(call) + " on rank " + std::to_string(rank) + ": the group is closed; form a new one");
}

void PyGroup::close() {
  if (!closed_ && !forked()) group_->close();
  closed_ = true;
}

nb::object status_of(const Status& status) {
  const auto text = [](std::string_view name) { return nb::str(name.data(), name.size()); };
  return result_class("Status")(text(name_of(status.code)), text(name_of(status.edge)), status.rank, status.peer,
                                status.epoch_expected, status.epoch_seen, status.fatal, status.text);
}

void bind_group(nb::module_& module) {
  nb::class_<ThreadTeam>(module, "ThreadTeam", "The meeting point of ranks that are threads of one process.")
      .def(
          "__init__", [](ThreadTeam* self, int num_ranks) { new (self) ThreadTeam(num_ranks); }, nb::arg("num_ranks"),
          "For `num_ranks` threads.")
      .def_prop_ro("num_ranks", &ThreadTeam::num_ranks, "Ranks that meet here.");
  nb::class_<PyGroup>(module, "GroupBase", nb::is_weak_referenceable(), "What crossdock.Group is made of.")
      .def(
          "__init__",
          [](PyGroup* self, nb::object rank, nb::object num_ranks, nb::object meeting, nb::object backend,
             nb::object device, nb::object deadline, nb::object max_concurrent_calls, nb::object reserved_sms) {
            GroupOptions options;
            options.backend = enum_of<BackendKind>(kBackendNames, text_of("Group: backend", backend), "backend");
            options.device = integer_of<int>("Group: device", device);
            options.max_concurrent_calls = integer_of<int>("Group: max_concurrent_calls", max_concurrent_calls);
            if (!reserved_sms.is_none())
              options.reserved_sms = std::max(0, integer_of<int>("Group: reserved_sms", reserved_sms));
            if (!deadline.is_none()) options.deadline = deadline_of(seconds_of("Group: deadline", deadline));
            new (self) PyGroup(integer_of<int>("Group: rank", rank), integer_of<int>("Group: num_ranks", num_ranks),
                               meeting, options);
          },
          nb::arg("rank").none(), nb::arg("num_ranks").none(), nb::arg("meeting").none(),
          nb::arg("backend").none() = "automatic", nb::arg("device").none() = -1, nb::arg("deadline") = nb::none(),
          nb::arg("max_concurrent_calls").none() = 2, nb::arg("reserved_sms") = nb::none(),
          nb::sig("def __init__(self, rank: int, num_ranks: int, meeting: typing.Any, backend: str = 'automatic', "
                  "device: int = -1, deadline: float | None = None, max_concurrent_calls: int = 2, "
                  "reserved_sms: int | None = None) -> None"))
      .def_prop_ro(
          "rank", [](const PyGroup& g) { return g.rank; }, "Of this member, from 0.")
      .def_prop_ro(
          "num_ranks", [](const PyGroup& g) { return g.num_ranks; }, "Members of the group.")
      .def_prop_ro(
          "backend", [](const PyGroup& g) { return name_of(g.backend); }, "A name of crossdock.BACKENDS.")
      .def_prop_ro(
          "device", [](const PyGroup& g) { return g.device; },
          "Ordinal as the driver counts; without meaning on the CPU.")
      .def_prop_ro("closed", &PyGroup::closed, "Whether this member has left.")
      .def(
          "poll", [](const PyGroup& g) { return status_of(g.use("Group.poll").poll()); },
          nb::sig("def poll(self) -> Status"), "The first failure seen by this rank, without waiting.")
      .def(
          "abort", [](const PyGroup& g, const std::string& reason) { g.use("Group.abort").abort(reason); },
          nb::arg("reason"),
          "Stops every member: running and later calls raise AbortedError with this reason. Never waits.")
      .def(
          "set_deadline",
          [](const PyGroup& g, nb::object seconds) {
            g.use("Group.set_deadline").set_deadline(deadline_of(seconds_of("Group.set_deadline: deadline", seconds)));
          },
          nb::arg("seconds").none(), nb::sig("def set_deadline(self, seconds: float) -> None"),
          "Longest wait for a peer, in calls to come and in calls that run; 0: no limit.")
      .def("close", &PyGroup::close,
           "Leaves the group. Local, legal twice; later calls on it or its exchanges raise StateError.");
}

}  // namespace crossdock::python
