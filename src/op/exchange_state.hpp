// SPDX-License-Identifier: Apache-2.0
// What one rank knows of an exchange: its memory, which buffer sets and plans are in use, how to launch.
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
  /// Throws what stands in the way of any call.
  void check(const char* name) const;
  Status poll() const;
  void clear_status();

  int take_buffer_set(const char* name);  // lowest free; StateError if all are in flight
  int take_plan(bool capturing);          // lowest free; a graph's plans are used again by graphs first, by others last
  /// Place of a combine along a kept plan from the caller's memory; StateError if it has none that is not handed out.
  int buffer_set_for_plan() const;
  void release_buffer_set(int buffer_set) { buffer_set_busy[buffer_set] = false; }
  void hold_plan(int plan) { ++plan_holders[plan]; }
  void release_plan(int plan) { --plan_holders[plan]; }

  /// Address of a region of this rank.
  template <class T>
  T* mine(std::uint64_t offset) const {
    return reinterpret_cast<T*>(memory.base(group->rank()) + offset);
  }
  sync::ReportRecord& report() const { return *reinterpret_cast<sync::ReportRecord*>(report_block->data()); }
  /// Place whose combine buffer `rows` is, or -1.
  int buffer_set_of_combine_buffer(const void* rows) const;
  /// Who is heard in a dispatch of so many tokens, and in a combine.
  tuning::Decision decide_dispatch(const CallOptions& options, std::int64_t tokens) const;
  tuning::Decision decide_combine(const CallOptions& options, Path path, std::int64_t tokens) const;
  tuning::Choice choose(std::int64_t rows, std::int64_t row_bytes, const tuning::GeometryRequest& request,
                        int idle_blocks = 0) const;

  std::shared_ptr<GroupState> group;
  memory::DeferredRelease deferred_release;  // what calls of this exchange touch outlives it until they have ended
  Config config;
  Shape shape;
  memory::Arena arena;
  memory::PeerMemory memory;
  platform::BlockPtr report_block;
  const kernels::LaunchTable* launches;
  platform::Limits limits;
  int resident_blocks;
  bool default_stream_is_shared;  // by ranks that would wait for each other
  std::vector<char> buffer_set_busy;
  std::vector<char> slots_free;  // the buffer set's last operation was a dispatch: kernels may write combine slots
  std::vector<int> plan_holders;
  std::vector<char> plan_in_graph;        // a captured dispatch writes it whenever its graph is replayed
  std::vector<std::int32_t> plan_tokens;  // T of this rank, -1: known to the device only
  int num_kept = 0;
  bool closed = false;
  LaunchInfo last_launch;
  std::vector<tuning::Entry> tuned_dispatch, tuned_combine[std::size(kPathNames)];  // of the tuning file

 private:
  void agree_on_config() const;
  void check_instance() const;
  void find_residency();
  void find_tuned();
  tuning::Decision decide(const CallOptions& options, const std::vector<tuning::Entry>& tuned,
                          std::int64_t tokens) const;
  void mark_empty_rows();
};

/// Stands around the launch of a call, so that it can be told later whether the call has ended. The device must be
/// current. A captured call is not told of: replays of graphs are the caller's to wait for.
class StreamMark {
 public:
  StreamMark(ExchangeState& exchange, StreamHandle stream, bool captured)
      : end_(captured ? nullptr : &exchange.deferred_release.end_of_calls_on(stream)), stream_(stream) {}
  ~StreamMark() {
    if (end_) end_->mark(stream_);  // also where the second kernel of a call was refused
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
