// SPDX-License-Identifier: Apache-2.0
// State of an exchange on one rank: its memory, the buffer sets and plans in use, and what launches need.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "crossdock/exchange.hpp"
#include "kernels/launch/launch.hpp"
#include "memory/deferred_release.hpp"
#include "memory/peer_memory.hpp"
#include "op/group_state.hpp"
#include "tuning/geometry.hpp"

namespace crossdock::detail {

class ExchangeState {
 public:
  /// Collective.
  ExchangeState(std::shared_ptr<GroupState> group, const Config& config);

  kernels::Call call(int buffer_set, int plan) const;
  /// Throws if no call may be made: after close, after a failure of the group, or while poll() has a report.
  void check(const char* name) const;
  Status poll() const;
  void clear_status();

  /// The lowest free one. StateError if all are in flight.
  int take_buffer_set(const char* name);
  /// The lowest free one. Calls that are captured prefer plans that a graph writes already, other calls the other plans.
  int take_plan(bool capturing);
  /// For a combine along a kept plan whose rows lie in the caller's memory. StateError if the caller's kernels may write
  /// the combine slots of every buffer set.
  int buffer_set_for_plan() const;
  void release_buffer_set(int buffer_set) { buffer_set_busy[buffer_set] = false; }
  void hold_plan(int plan) { ++plan_holders[plan]; }
  void release_plan(int plan) { --plan_holders[plan]; }

  /// Address of a region of this rank.
  template <class T>
  T* local(std::uint64_t offset) const {
    return reinterpret_cast<T*>(memory.base(group->rank()) + offset);
  }
  sync::ReportRecord& report() const { return *reinterpret_cast<sync::ReportRecord*>(report_block->data()); }
  /// Buffer set whose combine buffer `rows` is, or -1.
  int buffer_set_of_combine_buffer(const void* rows) const;

  std::shared_ptr<GroupState> group;
  memory::DeferredRelease deferred_release;  // keeps memory that enqueued calls use until they have ended
  Config config;
  Shape shape;
  memory::Arena arena;
  memory::PeerMemory memory;
  platform::BlockPtr report_block;
  const kernels::LaunchTable* launches;
  platform::Limits limits;
  int waiting_blocks;  // most blocks of a launch that wait; those of all ranks on the device are resident together
  int moving_blocks;   // most blocks of a launch that do not wait
  bool default_stream_is_shared;  // by ranks of this process: one would queue up behind the other and wait for it
  std::vector<char> buffer_set_busy;
  std::vector<char> slots_free;  // the last call on the buffer set was a dispatch: its combine slots may be written
  std::vector<int> plan_holders;
  std::vector<char> plan_in_graph;        // each replay of some graph writes the plan
  std::vector<std::int32_t> plan_tokens;  // T of this rank, -1 if only the device has it
  int num_kept = 0;
  bool closed = false;
  LaunchInfo last_launch;
  std::vector<tuning::Entry> tuned_dispatch, tuned_combine[std::size(kPathNames)];  // of the tuning file

 private:
  void agree_on_config() const;
  void check_instance() const;
  void find_residency();
  void find_tuned();
  void mark_empty_rows();
};

/// RAII around the launches of a call: records an event behind them, so that memory can outlive the call. The device must
/// be current. No event for a captured call: the caller waits for the replays of a graph.
class StreamMark {
 public:
  StreamMark(ExchangeState& exchange, StreamHandle stream, bool captured)
      : end_(captured ? nullptr : &exchange.deferred_release.end_of_calls_on(stream)), stream_(stream) {}
  ~StreamMark() {
    if (end_) end_->mark(stream_);  // also if the launch of a second kernel has thrown
  }
  StreamMark(const StreamMark&) = delete;
  StreamMark& operator=(const StreamMark&) = delete;

 private:
  platform::Event* end_;
  StreamHandle stream_;
};

struct PlanState {
  std::shared_ptr<ExchangeState> exchange;
  int plan;
  ~PlanState() {
    exchange->release_plan(plan);
    --exchange->num_kept;
  }
};

struct ReceivedState {
  std::shared_ptr<ExchangeState> exchange;
  int buffer_set;
  int plan;
  bool captured;
  bool kept = false;
  ~ReceivedState() {
    exchange->release_buffer_set(buffer_set);
    exchange->release_plan(plan);
  }
};

}  // namespace crossdock::detail
