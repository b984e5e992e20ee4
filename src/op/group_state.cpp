// SPDX-License-Identifier: Apache-2.0
#include "op/group_state.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <tuple>
#include <vector>

#include "memory/bootstrap.hpp"
#include "op/text.hpp"
#include "platform/system/random_id.hpp"
#include "tuning/geometry.hpp"

namespace crossdock::detail {
namespace {

using op::text;

/// What each rank gathers from the others when a group forms. Crosses processes as bytes.
struct Hello {
  std::uint64_t process[2];
  platform::DeviceId device_id;
  std::int32_t num_ranks, rank, backend, device, max_concurrent_calls, reserved_sms;
  platform::ShareOffer share;
};

/// Collective. The Hello of every rank. UsageError if the all-gather misplaces ranks, TopologyError if backends differ,
/// ConfigError if max_concurrent_calls or reserved_sms differ.
std::vector<Hello> exchange_hellos(const memory::Sharing& s, const Hello& mine) {
  auto all = memory::all_gather_value(s.all_gather, s.num_ranks, mine);
  for (int r = 0; r < s.num_ranks; ++r) {
    if (all[r].num_ranks != s.num_ranks || all[r].rank != r)
      throw UsageError(text("Group::join on rank ", s.rank, ": entry ", r, " of the all-gather says rank ", all[r].rank,
                            " of ", all[r].num_ranks, ", expected rank ", r, " of ", s.num_ranks,
                            "; the callback must place every rank's bytes in rank order"));
    if (all[r].backend != mine.backend)
      throw TopologyError(text("Group::join on rank ", s.rank, ": backend ",
                               name_of(static_cast<BackendKind>(mine.backend)), " here and ",
                               name_of(static_cast<BackendKind>(all[r].backend)), " on rank ", r,
                               "; name the backend in GroupOptions on every rank"));
    for (const auto& [name, here, there] :
         {std::tuple("max_concurrent_calls", mine.max_concurrent_calls, all[r].max_concurrent_calls),
          std::tuple("reserved_sms", mine.reserved_sms, all[r].reserved_sms)})
      if (here != there)
        throw ConfigError(text("Group::join on rank ", s.rank, ": ", name, " = ", here, " here and ", there,
                               " on rank ", r, "; give every rank the same GroupOptions"));
  }
  return all;
}

#define XD_OPERATION(name, operation, ...) operation,
constexpr const char* kOperations[] = {XD_EDGES(XD_OPERATION)};
#undef XD_OPERATION

/// The operation and the phase that wait on `edge`.
std::string where(Edge edge) {
  return text(kOperations[static_cast<int>(edge)], ", phase `wait_", name_of(edge), "`, edge `", name_of(edge), "`");
}

/// What a combine of this mode sums.
std::string words_of_mode(std::uint64_t mode) {
  const char* rows = mode & sync::kFusedRows   ? "fused rows"
                     : mode & sync::kPullsRows ? "rows in combine buffers"
                                               : "rows that are sent";
  return text(rows, mode & sync::kWithWeights ? ", combine_topk_weights" : "");
}

}  // namespace

/// Four steps: open devices; find out who shares a process or a device, and who can access whom; choose one share mode
/// for all; allocate and map the control words. run_collectively() and agree() give all ranks the same verdict.
GroupState::GroupState(memory::Sharing sharing, BackendKind backend, const GroupOptions& options,
                       const std::string& tuning_file, const std::string& problem)
    : sharing_(std::move(sharing)), max_concurrent_calls_(options.max_concurrent_calls) {
  run_collectively("Group::join", [&] {
    if (!problem.empty()) throw ConfigError(text("Group::join on rank ", rank(), ": ", problem));
    sharing_.device = platform::open_device(backend, options.device);
    check_sms(options);
    deferred_release_.emplace(*sharing_.device);
    end_of_writes_ = &deferred_release_->end_of_calls_on(nullptr);
    if (tuning_file != "none") read_tuning(tuning_file);
  });
  Hello mine{{},
             sharing_.device->id(),
             num_ranks(),
             rank(),
             static_cast<std::int32_t>(backend),
             sharing_.device->ordinal(),
             options.max_concurrent_calls,
             std::max(-1, options.reserved_sms),
             sharing_.device->share_offer()};
  const auto process = platform::system::process_id128();
  static_assert(sizeof process == sizeof mine.process);
  std::memcpy(mine.process, &process, sizeof process);
  std::string unreachable;
  std::vector<platform::ShareOffer> offers;
  ranks_on_device_ = threads_on_device_ = 0;
  for (const Hello& other : exchange_hellos(sharing_, mine)) {
    const bool same_process = std::memcmp(other.process, mine.process, sizeof mine.process) == 0;
    const bool same_device = backend != BackendKind::cpu && other.device_id == mine.device_id;
    offers.push_back(other.share);
    sharing_.in_process |= unsigned{same_process} << other.rank;
    ranks_on_device_ += same_device;
    threads_on_device_ += same_device && same_process;
    const std::string why = sharing_.device->peer_access_error_by_id(other.device_id);
    if (!why.empty() && unreachable.empty())
      unreachable = text("Group::join: rank ", rank(), " (device ", mine.device, ") cannot reach the memory of rank ",
                         other.rank, " (device ", other.device, "): ", why);
  }
  ranks_on_device_ = std::max(1, ranks_on_device_);
  const int num_sms = device().limits().num_sms;
  waiting_blocks_ = tuning::waiting_blocks(
      num_sms, options.reserved_sms < 0 ? tuning::default_reserved_sms(num_sms) : options.reserved_sms,
      options.max_concurrent_calls, ranks_on_device_);
  memory::agree(sharing_, unreachable, "Group::join", StatusCode::topology);
  sharing_.share_mode = memory::agree_on_share_mode(offers);
  control_ = memory::PeerMemory::create(sharing_, sizeof(sync::Control), "Group::join");
  run_collectively("Group::join", [&] {
    failure_ = sharing_.device->allocate_host_visible(sizeof(sync::FailureRecord));
    hold_fault_memory(*deferred_release_);
    set_deadline(sharing_.deadline);  // no kernel of any rank runs before this step has ended on every rank
  });
}

/// Writes of abort() and set_deadline() may still be queued: the event keeps their memory until they have ended.
GroupState::~GroupState() { device().mark_writes(*end_of_writes_); }

void GroupState::hold_fault_memory(memory::DeferredRelease& deferred_release) const {
  deferred_release.hold(control_);
  deferred_release.hold(failure_);
}

void GroupState::check_sms(const GroupOptions& options) const {
  if (options.max_concurrent_calls < 1)
    throw ConfigError(text("Group::join on rank ", rank(), ": max_concurrent_calls = ", options.max_concurrent_calls,
                           "; must be 1 or more"));
  const int num_sms = device().limits().num_sms;
  if (device().kind() != BackendKind::cpu && options.reserved_sms >= num_sms)
    throw ConfigError(text("Group::join on rank ", rank(), ": reserved_sms = ", options.reserved_sms,
                           " leaves no multiprocessor to wait on: device ", device().ordinal(), " has ", num_sms,
                           "; reserve fewer"));
}

void GroupState::read_tuning(const std::string& file) {
  try {
    tuned_ = tuning::read_file(file, {device().model(), num_ranks(), CROSSDOCK_VERSION});
  } catch (const ConfigError& error) {
    throw ConfigError(text("Group::join on rank ", rank(), ": ", error.what()));
  }
}

void GroupState::run_collectively(const char* what, const std::function<void()>& step) const {
  std::string failure;
  StatusCode code = StatusCode::system;
  try {
    step();
  } catch (const Error& error) {
    failure = error.what();
    code = error.code();
  } catch (const std::bad_alloc&) {  // the others must not wait for this rank until the deadline
    failure = text(what, " on rank ", rank(), ": out of memory on the host");
  } catch (const std::exception& error) {
    failure = text(what, " on rank ", rank(), ": ", error.what());
  }
  memory::agree(sharing_, failure, what, code);
}

sync::FaultView GroupState::faults(sync::ReportRecord* report) const {
  sync::FaultView faults{};
  for (int r = 0; r < num_ranks(); ++r) faults.control[r] = control(r);
  faults.failure = reinterpret_cast<sync::FailureRecord*>(failure_->data());
  faults.report = report;
  faults.rank = rank();
  faults.num_ranks = num_ranks();
  return faults;
}

Status GroupState::poll() const {
  Status status;
  status.rank = rank();
  // An abort of this rank counts at once. Other failures are written by kernels, with `code` last.
  if (own_abort_published_.load(std::memory_order_acquire)) {
    status.code = StatusCode::aborted;
    status.fatal = true;
    status.peer = rank();
    status.text = text("rank ", rank(), " aborted the group: ", own_abort_, ". Close the group");
    return status;
  }
  const sync::FailureRecord& record = failure();
  status.code = static_cast<StatusCode>(__atomic_load_n(&record.code, __ATOMIC_ACQUIRE));
  if (status.code == StatusCode::ok) return status;
  status.fatal = true;
  status.edge = static_cast<Edge>(record.edge);
  status.peer = static_cast<std::int32_t>(record.peer);
  status.epoch_expected = record.wait_report.epoch_expected;
  status.epoch_seen = record.wait_report.epoch_seen;
  status.text = message_of(status, record);
  return status;
}

std::string GroupState::reason_of(int origin) const {
  char reason[sync::kReasonBytes];
  device().read_sync(reason, control(rank())->reason[origin], sizeof reason);
  return std::string(reason, strnlen(reason, sizeof reason));
}

std::string GroupState::message_of(const Status& status, const sync::FailureRecord& record) const {
  const int origin = static_cast<int>(record.origin);  // the rank whose wait failed first
  if (status.code == StatusCode::aborted)
    return text("rank ", origin, " aborted the group: ", reason_of(origin), ". Seen by rank ", rank(),
                ". Close the group");
  if (status.code == StatusCode::usage)
    return text("ranks ", origin, " and ", status.peer, " combine in different modes: rank ", origin, " sums ",
                words_of_mode(record.wait_report.combine_mode_expected), ", rank ", status.peer, " sums ",
                words_of_mode(record.wait_report.combine_mode_seen), "; found in ", where(status.edge), ", epoch ",
                status.epoch_expected, ", seen by rank ", rank(),
                ". Pass the same kind of rows, and combine_topk_weights, on every rank. Close the group");
  const std::string advice = text(". Every rank must make the same calls in the same order within the deadline; rank ",
                                  status.peer, " is late, has stopped, or skipped a call, or has more calls under way ",
                                  "at once than max_concurrent_calls = ", max_concurrent_calls_, ". Close the group");
  const std::string epochs = text("expected epoch ", status.epoch_expected, ", saw ", status.epoch_seen);
  if (origin != rank())
    return text("rank ", origin, " gave up waiting for rank ", status.peer, " in ", where(status.edge), ": ", epochs,
                "; it stopped the group, seen by rank ", rank(), advice);
  return text("rank ", rank(), " waited past the deadline for rank ", status.peer, " in ", where(status.edge), ": ",
              epochs, advice);
}

void GroupState::check(const char* call) const {
  if (closed_) throw StateError(text(call, " on rank ", rank(), ": the group is closed; make a new one"));
  const Status status = poll();
  if (status.code != StatusCode::ok) raise(status.code, text(call, " refused on rank ", rank(), ": ", status.text));
}

void GroupState::abort(const std::string& reason) {
  if (closed_ || own_abort_claimed_.exchange(true)) return;
  own_abort_ = reason.empty() ? "no reason given" : reason.substr(0, sync::kReasonBytes - 1);
  char text[sync::kReasonBytes] = {};
  std::memcpy(text, own_abort_.data(), own_abort_.size());
  own_abort_published_.store(true, std::memory_order_release);
  const sync::Poison poison{StatusCode::aborted, Edge::poison, rank(), rank()};
  // Writes all reasons before any poison: a peer passes poison on, and whoever gets it then reads the reason at once.
  for (int r = 0; r < num_ranks(); ++r) device().write_async(control(r)->reason[rank()], text, sizeof text);
  for (int r = 0; r < num_ranks(); ++r) device().write_word_async(&control(r)->poison[rank()], poison.word());
}

void GroupState::set_deadline(std::chrono::milliseconds deadline) {
  sharing_.deadline = deadline;
  device().write_word_async(&control(rank())->deadline_ns,
                            static_cast<std::uint64_t>(std::max<std::int64_t>(0, deadline.count())) * 1'000'000);
}

}  // namespace crossdock::detail
