// SPDX-License-Identifier: Apache-2.0
// How many blocks, warps and splits_per_row: one small rule from the device's own numbers. It never decides correctness.
#pragma once

#include "platform/device.hpp"
#include "platform/machine.hpp"
#include "tuning/geometry_request.hpp"
#include "types/shape.hpp"

namespace crossdock::tuning {

/// Geometry of one launch and the parts into which a row is split.
struct Choice {
  platform::Geometry geometry;
  int splits_per_row = 1;
};

/// Threads of a block that moves rows: as many as kernels are compiled for.
inline constexpr int kMoveThreads = platform::kMaxThreads;
/// Bytes of a lane below which a row is not split further: one load, for which a small batch waits once.
inline constexpr int kSplitBytesPerLane = 16;

/// Bytes above which a row is split: on 4 x H200, pushes of 7168 bytes reach 357 GB/s where whole rows of 14336 stop at
/// 345 (2026-11-22).
inline constexpr int kMaxSplitBytes = 7168;

/// Most parts of a row: kernels count those of 2^24 tokens in 32 bits.
inline constexpr int kMaxSplitsPerRow = 32;

/// Tokens for which a call's rows by expert are counted on, at least: those of a decode step.
inline constexpr std::int64_t kLeastTokens = 64;

/// For `rows` rows of `row_bytes` bytes. What `request` leaves open is chosen here, what it asks is cut to what fits.
/// `resident`: blocks that fit at once.
/// Few rows: each is split over the warps of a few blocks; many rows: a warp takes whole rows on all multiprocessors.
/// `idle_blocks`: blocks to have besides those that find an item for every warp, if they fit.
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
  const std::int64_t most_pieces = max<std::int64_t>(1, row_bytes / (std::int64_t{limits.width} * kSplitBytesPerLane));
  const std::int64_t wanted = max<std::int64_t>(1, all_warps / max<std::int64_t>(1, rows));
  const std::int64_t least_pieces = ceil_div<std::int64_t>(row_bytes, kMaxSplitBytes);
  if (request.splits_per_row <= 0)
    choice.splits_per_row =
        static_cast<int>(min<std::int64_t>(min(max(wanted, least_pieces), most_pieces), kMaxSplitsPerRow));
  const std::int64_t items = max<std::int64_t>(1, rows * choice.splits_per_row);
  const std::int64_t blocks =
      request.num_blocks > 0 ? request.num_blocks : ceil_div<std::int64_t>(items, warps) + idle_blocks;
  choice.geometry.num_threads = warps * limits.width;
  choice.geometry.num_blocks = static_cast<int>(min<std::int64_t>(most_blocks, blocks));
  return choice;
}

}  // namespace crossdock::tuning
