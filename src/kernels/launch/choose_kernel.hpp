// SPDX-License-Identifier: Apache-2.0
// Chooses the kernel for a call. src/op, the launch files of all machines and the tests use this one choice.
#pragma once

#include "kernels/common/args.hpp"
#include "types/ll_packet.hpp"

namespace crossdock::kernels {

/// general: any call. latency: small batches, with sizes fixed at compile time, see dispatch_device.hpp and
/// expert_rows_latency_device.hpp. ll: LL packets, see ll_packets_device.hpp.
enum class Kernel : std::uint8_t { general, latency, ll };

/// Whether dispatch_latency can serve the call: all tokens are in one chunk, every warp has at most one split, and
/// every lane at most one unit of it.
constexpr bool fits_latency(const DispatchArgs& args, const platform::Geometry& geometry, int width) {
  const Shape& shape = args.call.shape;
  const std::int64_t tokens = args.num_tokens_on_device ? shape.max_tokens_per_rank : args.num_tokens;
  const int movers = geometry.num_blocks - kControlBlocksLatency;
  const std::int64_t warps = std::int64_t{movers} * (geometry.num_threads / width);
  const bool scales_fit = args.aligned_scales && shape.scale_bytes / 16 <= width;
  return args.step == DispatchStep::whole && !args.replay && movers > 0 && tokens <= kChunk &&
         tokens * args.splits.count <= warps && args.splits.units_per_split <= width && shape.top_k <= width &&
         scales_fit;
}

/// The shape decides on LL packets, because it is equal on all ranks and they must choose alike.
constexpr bool uses_ll(const DispatchArgs& args) { return args.call.shape.ll_packets_per_row != 0 && !args.replay; }

/// The same for combine. Rows that can be pulled travel in packets only if they are few; else a pull is faster.
constexpr bool uses_ll(const CombineArgs& args) {
  const Shape& shape = args.call.shape;
  const bool few = args.source == Source::slots || shape.max_tokens_per_rank <= ll_packet::kMaxTokensNotPulled;
  return shape.combine_uses_ll && args.source != Source::fused && few && !args.combine_topk_weights;
}

/// `geometry`: of the launch; `width`: threads of a warp.
constexpr Kernel kernel_for(const DispatchArgs& args, const platform::Geometry& geometry, int width) {
  if (uses_ll(args)) return Kernel::ll;
  return fits_latency(args, geometry, width) ? Kernel::latency : Kernel::general;
}
constexpr Kernel kernel_for(const ExpertRowsArgs& args, const platform::Geometry& geometry, int) {
  const Shape& shape = args.call.shape;
  const std::int64_t words = (shape.row_capacity + 31) / 32 * shape.experts_per_rank;
  const bool latency = !args.replay && geometry.num_blocks > 1 && shape.row_capacity <= kMaxLatencyRows &&
                       words <= kMaxLatencyWords && shape.experts_per_rank <= kExpertGroup;
  return latency ? Kernel::latency : Kernel::general;
}
constexpr Kernel kernel_for(const CombineArgs& args, const platform::Geometry&, int) {
  return uses_ll(args) ? Kernel::ll : Kernel::general;
}

/// Whether all blocks of a launch may wait: for a peer, or for other blocks of the launch. Such a launch has few blocks,
/// because each holds a multiprocessor that the peer may need for something else first (docs/protocol.md, "Who may wait").
constexpr bool waits(const DispatchArgs& args, const platform::Geometry&, int) {
  return args.step != DispatchStep::move;
}
constexpr bool waits(const ExpertRowsArgs& args, const platform::Geometry& geometry, int width) {
  const bool few = args.call.shape.row_capacity <= kFewRows && args.call.shape.experts_per_rank <= kExpertGroup;
  const bool counts_meet = args.step == ExpertRowsStep::whole && !args.replay && !few;
  return counts_meet && kernel_for(args, geometry, width) != Kernel::latency;
}
constexpr bool waits(const CombineArgs& args, const platform::Geometry&, int) {
  return args.step == CombineStep::whole || args.step == CombineStep::meet;
}

/// Whether a kernel may start before the kernel before it in the stream has ended (programmatic dependent launch). It
/// then begins with a wait for the end of that kernel. A fused combine may not. Its signal is a relaxed store without a
/// fence, and the caller's kernel has stored rows at other ranks: without overlap, the end of that kernel is known to
/// order these rows before the signal; with it, this is not known (docs/adr/0015-early-launches.md).
constexpr bool may_launch_early(const CombineArgs& args) { return args.source != Source::fused; }
constexpr bool may_launch_early(const DispatchArgs&) { return true; }
constexpr bool may_launch_early(const ExpertRowsArgs&) { return true; }

}  // namespace crossdock::kernels
