// SPDX-License-Identifier: Apache-2.0
// What travels into kernels, by value, built once in op/.
#pragma once

#include "memory/peers.hpp"
#include "memory/regions.hpp"
#include "platform/machine.hpp"
#include "route/token_route.hpp"
#include "sync/status.hpp"
#include "types/ll_packet.hpp"
#include "types/shape.hpp"

namespace crossdock::kernels {

/// Warps of a block, at most.
inline constexpr int kMaxWarps = platform::kMaxThreads / 32;

/// What every kernel of an exchange needs. Offsets are absolute: buffer set and plan are already chosen.
struct Call {
  memory::Peers peers;
  sync::FaultView faults;
  Shape shape;
  memory::BufferSetRegions buffer_set;
  memory::PlanRegions plan;
  std::int32_t plan_idx;
  std::int64_t plan_bytes;  // from one plan to the next

  template <class T>
  XD_FN T* local(std::uint64_t offset) const {
    return peers.local<T>(offset);
  }
  template <class T>
  XD_FN T* remote(int peer, std::uint64_t offset) const {
    return peers.remote<T>(peer, offset);
  }
  /// A region of plan `idx`, where a region of this call's plan is asked for: ranks differ in which plan is free.
  template <class T>
  XD_FN T* remote_plan(int peer, int idx, std::uint64_t offset) const {
    return remote<T>(peer, offset + (idx - plan_idx) * plan_bytes);
  }
};

/// Parts of a row that different warps take, in units of 16 bytes.
struct RowSplits {
  std::int32_t count, units_per_split;
  Divisor div_count;

  static constexpr RowSplits of(std::int32_t units, std::int32_t units_per_split) {
    const std::int32_t count = ceil_div(units, units_per_split);
    return {count, units_per_split, Divisor::of(count)};
  }
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
};

/// Tokens whose rows a block of dispatch finds at once: one bit each in a word.
inline constexpr int kChunk = 64;

/// Blocks of a small launch that move no rows: one counts and publishes, one keeps the books of pairs.
inline constexpr int kControlBlocksLatency = 2;

/// Whether a launch is the small one: one chunk of tokens, an item per warp at most and a unit of it per lane. What is known
/// beforehand need not be asked in the kernel, whose time is that of its instructions.
inline bool is_latency(const DispatchArgs& args, const platform::Geometry& geometry, int width) {
  const Shape& shape = args.call.shape;
  const std::int64_t tokens = args.num_tokens_on_device ? shape.max_tokens_per_rank : args.num_tokens;
  const int movers = geometry.num_blocks - kControlBlocksLatency;
  const std::int64_t warps = std::int64_t{movers} * (geometry.num_threads / width);
  const bool scales_fit = args.aligned_scales && shape.scale_bytes / 16 <= width;
  return !args.replay && movers > 0 && tokens <= kChunk && tokens * args.splits.count <= warps &&
         args.splits.units_per_split <= width && shape.top_k <= width && scales_fit;
}

/// Blocks of a launch in packets that move no rows: they tell, route and count.
inline constexpr int kControlBlocks = 3;

/// Whether the rows of a call travel in packets: the same on all ranks.
inline bool uses_ll_packets(const DispatchArgs& args) {
  return args.call.shape.ll_packets_per_row != 0 && !args.replay;
}

struct ExpertRowsArgs {
  Call call;
  RowSplits splits;
  bool replay;  // the plan's expert rows stand, only bytes move
};

/// Local experts whose rows are placed at once.
inline constexpr int kExpertGroup = 512;

/// Rows of a rank by expert that are few whatever arrives: then every block reads all ids before its own, and has a bit for each
/// row and expert.
inline constexpr int kMaxLatencyRows = 1024, kMaxLatencyWords = 4096;

/// Whether a launch is that of few rows.
inline bool is_latency(const ExpertRowsArgs& args, const platform::Geometry& geometry) {
  const Shape& shape = args.call.shape;
  const std::int64_t words = (shape.row_capacity + 31) / 32 * shape.experts_per_rank;
  return !args.replay && geometry.num_blocks > 1 && shape.row_capacity <= kMaxLatencyRows &&
         words <= kMaxLatencyWords && shape.experts_per_rank <= kExpertGroup;
}

/// Where combine finds the rows of a token.
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
};
/// The same of combine. More rows than a few are pulled in less time, where they can be.
inline bool uses_ll_packets(const CombineArgs& args) {
  const Shape& shape = args.call.shape;
  const bool few = args.source == Source::slots || shape.max_tokens_per_rank <= ll_packet::kMaxTokensNotPulled;
  return shape.combine_uses_ll && args.source != Source::fused && few && !args.combine_topk_weights;
}

/// Whether a launch may begin before the kernel before it has ended, which it then awaits. Rows that a caller's kernel has stored
/// to other ranks are signalled without a fence, and that is known to hold only for the plain order of a stream.
inline bool may_launch_early(const CombineArgs& args) { return args.source != Source::fused; }
inline bool may_launch_early(const DispatchArgs&) { return true; }
inline bool may_launch_early(const ExpertRowsArgs&) { return true; }

}  // namespace crossdock::kernels
