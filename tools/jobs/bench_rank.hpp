// SPDX-License-Identifier: Apache-2.0
// One rank of a bench: its exchange, its memory, and the calls that are timed.
#pragma once

#include <optional>

#include "jobs/measure.hpp"
#include "machine/rank_memory.hpp"

namespace crossdock::tools {

class BenchRank {
 public:
  /// Collective, in the rank's thread: a first dispatch, whose plan is kept, and the inputs of combine.
  BenchRank(const Data& data, const ThreadTeam& team, int rank, Machine& machine);

  /// The call of `op`. replay and combine alone go along the kept plan; a fused combine consumes a dispatch.
  void call(Op op, const CallOptions& options);
  void start_dispatch(const CallOptions& options);
  void start_replay(const CallOptions& options);
  void finish_combine(const CallOptions& options);
  /// Overwrites what earlier calls have left, so that only later ones can make it right.
  void debug_fill();
  /// Empty, or how what `op` has left differs from the oracle. All calls must be done.
  std::string judge(Op op, const oracle::RankResult& expected);

  /// How the newest calls were launched.
  const LaunchInfo& dispatched() const { return dispatched_; }
  const LaunchInfo& combined() const { return combined_; }
  std::vector<TraceEvent> trace() const { return exchange_.trace(); }
  bool fused() const { return data_.problem.path == Path::fused; }
  /// What cannot be timed, and why.
  static std::string refuses(const Problem& problem, const Run& run);

 private:
  void place_outputs();
  std::int64_t row_bytes() const;
  std::int64_t weight_bytes() const;  // of the second result; 0 if it is not asked for

  const Data& data_;
  const int rank_;
  Machine& machine_;
  RankMemory memory_;
  Group group_;
  Exchange exchange_;
  DispatchInput input_;
  std::optional<Received> received_;  // of the last dispatch
  std::optional<Plan> plan_;
  void *arrived_ = nullptr, *arrived_by_expert_ = nullptr;  // one in flight, so they lie in one place
  DeviceBytes outputs_, results_, weights_;
  std::int64_t result_bytes_;
  LaunchInfo dispatched_, combined_;
  CombineInput in_;
  CombineOutput out_;
};

/// What rank `rank` passes to dispatch, where the exchange can read it.
DispatchInput input_of(const Data& data, int rank, RankMemory& memory);

/// Expert outputs of rank `rank` to where the exchange reads them.
void put_outputs(const Data& data, int rank, std::byte* to, Machine& machine);

}  // namespace crossdock::tools
