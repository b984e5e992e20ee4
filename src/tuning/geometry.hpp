// SPDX-License-Identifier: Apache-2.0
// The rule for blocks, warps and splits per row, computed from the device's limits. Results do not depend on it.
#pragma once

#include "platform/device.hpp"
#include "platform/machine.hpp"
#include "tuning/geometry_request.hpp"
#include "types/shape.hpp"

namespace crossdock::tuning {

/// Geometry of one launch, and the number of parts into which each row is split.
struct Choice {
  platform::Geometry geometry;
  int splits_per_row = 1;
};

/// Threads of a block that moves rows: as many as kernels are compiled for.
inline constexpr int kMoveThreads = platform::kMaxThreads;
/// A part has at least so many bytes per lane, one load: in a small batch each lane then waits once.
inline constexpr int kSplitBytesPerLane = 16;

/// A part has at most so many bytes. On 4 x H200, pushes in parts of 7168 bytes reach 357 GB/s, whole rows of 14336
/// bytes 345 GB/s (2026-11-22).
inline constexpr int kMaxSplitBytes = 7168;

/// Most parts of a row. Kernels count the parts of 2^24 tokens in 32 bits.
inline constexpr int kMaxSplitsPerRow = 32;

/// Lower bound on the tokens assumed per peer when sizing expert_rows: those of a decode step.
inline constexpr std::int64_t kLeastTokens = 64;

/// Blocks of one launch that may wait for peers or for each other: they must leave multiprocessors to what those peers may
/// have to run first (GroupOptions::max_concurrent_calls). `ranks`: ranks of the group on the device.
constexpr int waiting_blocks(int num_sms, int reserved_sms, int max_concurrent_calls, int ranks) {
  return max(1, min(num_sms / 2, (num_sms - reserved_sms) / (max_concurrent_calls * ranks)));
}
/// SMs that are left to others where the caller has not said how many.
constexpr int default_reserved_sms(int num_sms) { return min(32, num_sms / 4); }

/// Bytes of a rank's rows from which on a call is launched in steps, so that more blocks than may wait can move rows.
inline constexpr std::int64_t kBulkBytes = std::int64_t{512} * 14336;

/// Geometry for `rows` rows of `row_bytes` bytes. Members of `request` that are set are reduced to what fits; the
/// others are chosen here.
/// Few rows: each row is split over the warps of a few blocks. Many rows: each warp moves whole rows, on all
/// multiprocessors.
/// `resident`: blocks that fit on the device at once. `idle_blocks`: blocks to launch, if they fit, in addition to
/// those whose warps all have an item.
inline Choice choose(const platform::Limits& limits, std::int64_t rows, std::int64_t row_bytes,
                     const GeometryRequest& request, int resident, int idle_blocks = 0) {
  Choice choice;
  if (request.splits_per_row > 0) choice.splits_per_row = min(request.splits_per_row, kMaxSplitsPerRow);
  if (limits.max_threads == 1) return choice;
  const int most_warps = min(kMoveThreads, limits.max_threads) / limits.width;
  const int warps = request.num_warps > 0 ? min(request.num_warps, most_warps) : most_warps;
  const int most_blocks =
      max(1, min(resident, request.num_sms > 0 ? request.num_sms : max(limits.num_sms, request.num_blocks)));
  const std::int64_t all_warps = std::int64_t{most_blocks} * warps;
  const std::int64_t most_splits = max<std::int64_t>(1, row_bytes / (std::int64_t{limits.width} * kSplitBytesPerLane));
  const std::int64_t wanted = max<std::int64_t>(1, all_warps / max<std::int64_t>(1, rows));
  const std::int64_t least_splits = ceil_div<std::int64_t>(row_bytes, kMaxSplitBytes);
  if (request.splits_per_row <= 0)
    choice.splits_per_row =
        static_cast<int>(min<std::int64_t>(min(max(wanted, least_splits), most_splits), kMaxSplitsPerRow));
  const std::int64_t items = max<std::int64_t>(1, rows * choice.splits_per_row);
  const std::int64_t blocks =
      request.num_blocks > 0 ? request.num_blocks : ceil_div<std::int64_t>(items, warps) + idle_blocks;
  choice.geometry.num_threads = warps * limits.width;
  choice.geometry.num_blocks = static_cast<int>(min<std::int64_t>(most_blocks, blocks));
  return choice;
}

}  // namespace crossdock::tuning
