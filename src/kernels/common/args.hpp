// SPDX-License-Identifier: Apache-2.0
// Arguments of kernels: plain values, made once per call in op/ and passed by value.
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

/// What every kernel of an exchange needs. Offsets are absolute: they are those of one buffer set and one plan.
struct Call {
  memory::Peers peers;
  sync::FaultView faults;
  Shape shape;
  memory::BufferSetRegions buffer_set;
  memory::PlanRegions plan;
  std::int32_t plan_idx;
  std::int64_t plan_bytes;  // from one plan to the next

  /// A region of this rank.
  template <class T>
  XD_FN T* local(std::uint64_t offset) const {
    return peers.local<T>(offset);
  }
  /// A region of rank `peer`, which may be this one.
  XD_FN wire::PeerPtr remote(int peer, std::uint64_t offset) const { return {peers, peer, offset}; }
  /// A region of plan `idx` of rank `peer`, from the offset in this call's plan: ranks may use different plans.
  XD_FN wire::PeerPtr remote_plan(int peer, int idx, std::uint64_t offset) const {
    return remote(peer, offset + (idx - plan_idx) * plan_bytes);
  }
};

/// How a row is split over warps, in units of 16 bytes.
struct RowSplits {
  std::int32_t count, units_per_split;
  Divisor div_count;

  static constexpr RowSplits of(std::int32_t units, std::int32_t units_per_split) {
    const std::int32_t count = ceil_div(units, units_per_split);
    return {count, units_per_split, Divisor::of(count)};
  }
};

/// What a launch of a call does. A call whose blocks are few is one launch. A call that needs more blocks than may wait for
/// others (see waits() in choose_kernel.hpp) is several launches in a row: those that wait have few blocks, those that move
/// rows have many and wait for nobody.
enum class DispatchStep : std::uint8_t {
  whole,
  route,   // routes, publishes and awaits the counts, writes the plan
  move,    // moves rows along the plan, signals done
  finish,  // awaits done
};
enum class ExpertRowsStep : std::uint8_t {
  whole,
  count,  // each block leaves the counts of its rows
  copy,   // copies rows; finds the counts of all blocks there
};
enum class CombineStep : std::uint8_t {
  whole,
  enter,   // exchanges enter, if the operation before was a combine
  send,    // pushes rows and weights to their homes, signals ready
  meet,    // signals ready, unless `send` has; awaits it
  reduce,  // sums
};

struct DispatchArgs {
  Call call;
  const std::byte* tokens;
  route::Ids topk_ids;
  const float* topk_weights;  // null: each weight is 1
  const std::byte* scales;
  bool aligned_scales;  // they can be moved 16 bytes at a time
  std::int32_t num_tokens;
  const std::int32_t* num_tokens_on_device;
  RowSplits splits;
  bool replay;  // along the plan's routes, no routing
  DispatchStep step;
};

struct ExpertRowsArgs {
  Call call;
  RowSplits splits;
  bool replay;  // the plan's expert rows stand, only bytes move
  ExpertRowsStep step;
};

/// Where combine finds the rows of a token: in this rank's combine slots, in the peers' combine buffers, or, one for each id,
/// in this rank's combine slots.
enum class Source : std::uint8_t { slots, peers, fused };

struct CombineArgs {
  Call call;
  const std::byte* rows;
  const float* topk_weights;  // rows of the second result; null: the dispatched ones
  std::byte* out;
  float* out_topk_weights;
  std::int32_t num_tokens;  // fused: T, -1 = of the plan
  RowSplits send, reduce;
  Source source;
  bool combine_topk_weights;
  CombineStep step;
};

/// Tokens whose rows a block of dispatch finds at once: one bit each in a word.
inline constexpr int kChunk = 64;

/// Blocks of dispatch_latency that move no rows: one publishes the counts, one counts the experts' tokens.
inline constexpr int kControlBlocksLatency = 2;

/// Blocks of dispatch_ll that move no rows: BlockRole names them.
inline constexpr int kControlBlocks = 3;

/// Local experts whose rows are assigned at once.
inline constexpr int kExpertGroup = 512;

/// expert_rows: received rows up to which a block counts alone, which is faster than waiting for the counts of others.
inline constexpr int kFewRows = 512;

/// Received rows up to which expert_rows_latency serves, and words of its bit map (rows x local experts).
inline constexpr int kMaxLatencyRows = 1024, kMaxLatencyWords = 4096;

}  // namespace crossdock::kernels
