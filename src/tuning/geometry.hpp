// SPDX-License-Identifier: Apache-2.0
// The rule for blocks, warps and splits per row, computed from the device's limits. Results do not depend on it.
#pragma once

#include "platform/device.hpp"
#include "platform/machine.hpp"
#include "tuning/geometry_request.hpp"
#include "types/shape.hpp"

namespace crossdock::tuning {

/// Geometry of one launch, and the number of splits of each row. A split is the part of a row that one warp moves.
struct Choice {
  platform::Geometry geometry;
  int splits_per_row = 1;
};

/// Threads of a block that moves rows: as many as kernels are compiled for.
inline constexpr int kMoveThreads = platform::kMaxThreads;
/// Least bytes of a split per lane: one load. Smaller splits leave lanes idle; at this size a lane waits for memory
/// once.
inline constexpr int kSplitBytesPerLane = 16;

/// Most bytes of a split. On 4 x H200, pushes in splits of 7168 bytes reach 357 GB/s, whole rows of 14336 bytes
/// 345 GB/s (2026-11-22).
inline constexpr int kMaxSplitBytes = 7168;

/// Most splits of a row. Kernels index the splits of all rows by 32 bits, and there are up to 2^24 tokens.
inline constexpr int kMaxSplitsPerRow = 32;

/// Least number of tokens that the grid of expert_rows assumes for every rank, about those of a decode step. A rank
/// with few tokens can receive many rows.
inline constexpr std::int64_t kLeastTokens = 64;

/// Blocks of one launch that may wait for peers or for each other. They leave multiprocessors free for what those peers
/// may have to run first (GroupOptions::max_concurrent_calls). `ranks`: ranks of the group on the device.
constexpr int waiting_blocks(int num_sms, int reserved_sms, int max_concurrent_calls, int ranks) {
  return max(1, min(num_sms / 2, (num_sms - reserved_sms) / (max_concurrent_calls * ranks)));
}
/// GroupOptions::reserved_sms where the caller has not set it.
constexpr int default_reserved_sms(int num_sms) { return min(32, num_sms / 4); }

/// Bytes of a rank's tokens from which on a call is two launches, so that more blocks than may wait can move rows. Below
/// that, one launch of fewer blocks is faster. On one H200 where 64 blocks may wait (2026-11-29), dispatch of 256 tokens
/// of 14336 bytes took 12.4 us in one launch and 20.6 us in three; with 129 blocks that all wait it took 13.2 us. Combine by
/// expert sums all expert rows of a token, so fewer tokens are worth a second launch.
inline constexpr std::int64_t kBulkDispatchBytes = std::int64_t{1024} * 14336;
inline constexpr std::int64_t kBulkCombineBytes = std::int64_t{512} * 14336;
inline constexpr std::int64_t kBulkCombineByExpertBytes = std::int64_t{128} * 14336;

/// Geometry for `rows` rows of `row_bytes` bytes. Members that `request` sets are reduced to what fits; the others are
/// chosen here.
/// Few rows: each row is split over many warps. Many rows: each warp moves large splits or whole rows, on all
/// multiprocessors. A work item is one split of one row.
/// `resident`: most blocks. `idle_blocks`: blocks without work items (control blocks), which are launched in addition
/// if they fit.
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
  // Wanted: a split for every warp. At least so many that none exceeds kMaxSplitBytes, at most so many that each lane
  // has a load.
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
