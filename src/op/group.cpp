// SPDX-License-Identifier: Apache-2.0
#include "crossdock/group.hpp"

#include <algorithm>
#include <cstdlib>

#include "memory/bootstrap.hpp"
#include "memory/rendezvous.hpp"
#include "op/environment.hpp"
#include "op/group_state.hpp"
#include "op/text.hpp"

namespace crossdock {
namespace {

using op::text;

void check_rank(int rank, int num_ranks) {
  if (num_ranks < 1 || num_ranks > kMaxRanks)
    throw UsageError(text("Group::join: num_ranks = ", num_ranks, "; must be 1 to ", kMaxRanks));
  if (rank < 0 || rank >= num_ranks)
    throw UsageError(text("Group::join: rank = ", rank, "; must be 0 to ", num_ranks - 1));
}

/// Longer deadlines are cut to 100 years: 64 bits of nanoseconds overflow after 292.
constexpr std::chrono::milliseconds kLongestDeadline = std::chrono::hours(24) * 365 * 100;

/// The caller's backend, else that of CROSSDOCK_BACKEND, else the first one that has a device.
BackendKind backend_of(const GroupOptions& options) {
  const BackendKind asked = options.backend != BackendKind::automatic ? options.backend : op::environment_backend();
  if (asked != BackendKind::automatic) return asked;
  const char* note = nullptr;
  for (const BackendKind kind : op::kMachines)
    if (platform::num_devices(kind, &note) > 0) return kind;
  return BackendKind::cpu;
}

/// The caller's options, where they leave it to the environment with its values. A variable that is not valid is a
/// `problem`: this rank still meets the others, so that all of them learn of it at once.
struct Chosen {
  std::chrono::milliseconds deadline = kLongestDeadline;
  BackendKind backend = BackendKind::cpu;
  std::string tuning_file = "none", problem;
};
Chosen chosen_by(const GroupOptions& options) {
  Chosen chosen;
  try {
    chosen.deadline =
        std::min(options.deadline.count() >= 0 ? options.deadline : op::environment_deadline(), kLongestDeadline);
    chosen.backend = backend_of(options);
    chosen.tuning_file = options.tuning_file.empty() ? op::environment_tuning_file() : options.tuning_file;
  } catch (const ConfigError& error) {
    chosen.problem = error.what();
  }
  return chosen;
}

std::shared_ptr<detail::GroupState> form(AllGather all_gather, int rank, int num_ranks, const GroupOptions& options,
                                         const Chosen& chosen) {
  memory::Sharing sharing;
  // Copies of `sharing` share one callable, because the caller's callable may have state.
  sharing.all_gather = [shared = std::make_shared<AllGather>(std::move(all_gather))](
                           const void* mine, std::size_t bytes, void* all) { (*shared)(mine, bytes, all); };
  sharing.rank = rank;
  sharing.num_ranks = num_ranks;
  sharing.deadline = chosen.deadline;
  return std::make_shared<detail::GroupState>(std::move(sharing), chosen.backend, options, chosen.tuning_file,
                                              chosen.problem);
}

}  // namespace

ThreadTeam::ThreadTeam(int num_ranks) : state_(std::make_shared<detail::ThreadTeamState>(num_ranks)) {}
int ThreadTeam::num_ranks() const { return state_->num_ranks(); }

Group Group::join(const ThreadTeam& team, int rank, const GroupOptions& options) {
  check_rank(rank, team.num_ranks());
  const Chosen chosen = chosen_by(options);
  return Group(
      form(memory::all_gather_of(team.state_, rank, chosen.deadline), rank, team.num_ranks(), options, chosen));
}

Group Group::join(int rank, int num_ranks, AllGather all_gather, const GroupOptions& options) {
  check_rank(rank, num_ranks);
  if (!all_gather) throw UsageError(text("Group::join on rank ", rank, ": all_gather is empty; pass a callable"));
  return Group(form(std::move(all_gather), rank, num_ranks, options, chosen_by(options)));
}

Group Group::rendezvous(const std::string& name, int rank, int num_ranks, const GroupOptions& options) {
  check_rank(rank, num_ranks);
  const Chosen chosen = chosen_by(options);
  auto meeting = memory::Rendezvous::meet(name, rank, num_ranks, chosen.deadline);
  return Group(form(memory::all_gather_of(std::move(meeting)), rank, num_ranks, options, chosen));
}

Group::Group(std::shared_ptr<detail::GroupState> state) : state_(std::move(state)) {}
Group::Group(Group&&) noexcept = default;
Group& Group::operator=(Group&&) noexcept = default;
Group::~Group() = default;

namespace {
const detail::GroupState& open(const std::shared_ptr<detail::GroupState>& state, const char* call) {
  if (!state) throw StateError(text(call, ": the group was moved from"));
  return *state;
}
}  // namespace

int Group::rank() const { return open(state_, "Group::rank").rank(); }
int Group::num_ranks() const { return open(state_, "Group::num_ranks").num_ranks(); }
BackendKind Group::backend() const { return open(state_, "Group::backend").device().kind(); }
int Group::device() const { return open(state_, "Group::device").device().ordinal(); }
std::string Group::device_model() const { return open(state_, "Group::device_model").device().model(); }
std::string Group::sharing() const { return open(state_, "Group::sharing").sharing().share_mode.text; }
Status Group::poll() const { return open(state_, "Group::poll").poll(); }

void Group::abort(const std::string& reason) {
  open(state_, "Group::abort");
  state_->abort(reason);
}

void Group::set_deadline(std::chrono::milliseconds deadline) {
  open(state_, "Group::set_deadline");
  if (deadline.count() < 0)
    throw UsageError(text("Group::set_deadline: ", deadline.count(), " ms; must be 0 (no limit) or more"));
  state_->set_deadline(std::min(deadline, kLongestDeadline));
}

void Group::close() {
  if (state_) state_->close();
}

}  // namespace crossdock
