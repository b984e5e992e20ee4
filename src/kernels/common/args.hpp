// SPDX-License-Identifier: Apache-2.0
// Arguments of kernels: plain values, which src/op fills on the host for each call and passes by value.
#pragma once

#include "memory/peers.hpp"
#include "memory/regions.hpp"
#include "platform/machine.hpp"
#include "route/token_route.hpp"
#include "sync/status.hpp"
#include "types/shape.hpp"
#include "wire/peer.hpp"

namespace crossdock::kernels {

/// Warps of a block, at most.
inline constexpr int kMaxWarps = platform::kMaxThreads / 32;

/// What every kernel needs. The arena of a rank holds several buffer sets (receive rows, combine slots and signal words
/// of one use) and several plans (results of routing). `buffer_set` and `plan` are offsets from the start of the arena,
/// for the buffer set and the plan of this call.
struct Call {
  memory::Peers peers;
  sync::FaultView faults;
  Shape shape;
  memory::BufferSetRegions buffer_set;
  memory::PlanRegions plan;
  std::int32_t plan_idx;
  std::int64_t plan_bytes;  // distance from one plan to the next

  /// Address of a region in this rank's own arena.
  template <class T>
  XD_FN T* local(std::uint64_t offset) const {
    return peers.local<T>(offset);
  }
  /// Address of a region in the arena of rank `peer`, which may be this rank.
  XD_FN wire::PeerPtr remote(int peer, std::uint64_t offset) const { return {peers, peer, offset}; }
  /// Address of a region in plan `idx` of rank `peer`; `offset` is that of the region in this call's own plan. For one
  /// dispatch, ranks may use plans of different index.
  XD_FN wire::PeerPtr remote_plan(int peer, int idx, std::uint64_t offset) const {
    return remote(peer, offset + (idx - plan_idx) * plan_bytes);
  }
};

/// How a row is split over warps. A unit is 16 bytes of a row, a split is the part of a row that one warp moves.
struct RowSplits {
  std::int32_t count, units_per_split;
  Divisor div_count;

  static constexpr RowSplits of(std::int32_t units, std::int32_t units_per_split) {
    const std::int32_t count = ceil_div(units, units_per_split);
    return {count, units_per_split, Divisor::of(count)};
  }
};

/// What a launch of a call does. A call whose blocks are few is one launch (`whole`). A call that needs more blocks
/// than may wait for others (see waits() in choose_kernel.hpp) is several launches in a row. Those that wait have few
/// blocks; those that move rows have many and wait for nothing.
enum class DispatchStep : std::uint8_t {
  whole,
  route,  // routes, publishes and awaits the counts, writes the plan
  move,   // moves rows along the plan; the last block signals done and awaits it
};
enum class ExpertRowsStep : std::uint8_t {
  whole,
  count,  // each block leaves the counts of its rows
  copy,   // copies rows; finds the counts of all blocks there
};
enum class CombineStep : std::uint8_t {
  whole,
  send,    // pushes rows and weights to their homes; the last block signals ready and awaits it
  meet,    // where nothing is pushed: signals ready and awaits it
  reduce,  // sums
};

struct DispatchArgs {
  Call call;
  const std::byte* tokens;  // a row for each token of this rank
  route::Ids topk_ids;
  const float* topk_weights;  // null: each weight is 1
  const std::byte* scales;
  bool aligned_scales;  // they can be moved 16 bytes at a time
  std::int32_t num_tokens;
  const std::int32_t* num_tokens_on_device;  // null: num_tokens holds
  RowSplits splits;
  bool replay;  // reuses the routes and metadata of the plan; topk_ids and topk_weights are not read
  DispatchStep step;
};

struct ExpertRowsArgs {
  Call call;
  RowSplits splits;
  bool replay;  // the plan has the expert rows already; only bytes are copied
  ExpertRowsStep step;
};

/// Where combine reads the rows that it sums.
/// slots: this rank's combine slots, one per rank of a token; every rank pushes its rows there first.
/// peers: the peers' combine buffers; this rank pulls.
/// fused: this rank's combine slots, one per id of a token; the caller's kernel has written them.
enum class Source : std::uint8_t { slots, peers, fused };

struct CombineArgs {
  Call call;
  const std::byte* rows;      // outputs of the caller's experts, by received row or by expert row
  const float* topk_weights;  // of the received rows, summed as the second result; null: those that dispatch brought
  std::byte* out;
  float* out_topk_weights;
  std::int32_t num_tokens;  // fused only: tokens of the result; -1: T of the plan
  RowSplits send, reduce;   // of the rows that are pushed, and of the rows of the result
  Source source;
  bool combine_topk_weights;
  CombineStep step;
  std::int32_t max_waiting_blocks;  // of step send, if it must exchange enter first
};

/// Tokens that a block of dispatch routes at once: one bit each in a 64-bit word.
inline constexpr int kChunk = 64;

/// Blocks of dispatch_latency that move no rows: one publishes the row counts, one counts (token, expert) pairs.
inline constexpr int kControlBlocksLatency = 2;

/// Blocks of dispatch_ll that move no rows: BlockRole names them.
inline constexpr int kControlBlocks = 3;

/// Local experts that expert_rows handles in one pass over the rows: their counters fit in shared memory.
inline constexpr int kExpertGroup = 512;

/// expert_rows: received rows up to which a block counts alone, which is faster than waiting for the counts of others.
inline constexpr int kFewRows = 512;

/// Limits of expert_rows_latency: received rows, and 32-bit words of its bit map (rows x local experts).
inline constexpr int kMaxLatencyRows = 1024, kMaxLatencyWords = 4096;

}  // namespace crossdock::kernels
