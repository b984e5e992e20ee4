// SPDX-License-Identifier: Apache-2.0
// How many blocks, warps and pieces: one small rule from the device's own numbers. It never decides correctness.
#pragma once

#include "platform/device.hpp"
#include "platform/machine.hpp"
#include "tuning/wish.hpp"
#include "types/shape.hpp"

namespace crossdock::tuning {

/// Geometry of one launch and the parts into which a row is split.
struct Choice {
  platform::Geometry geometry;
  int pieces = 1;
};

/// Threads of a block that moves rows: as many as kernels are compiled for.
inline constexpr int kMoveThreads = platform::kMostThreads;
/// Bytes of a lane below which a row is not split further: one load, for which a small batch waits once.
inline constexpr int kPieceBytesPerLane = 16;

/// Bytes above which a row is split: on 4 x H200, pushes of 7168 bytes reach 357 GB/s where whole rows of 14336 stop at
/// 345 (2026-11-22).
inline constexpr int kMostPieceBytes = 7168;

/// Most parts of a row: kernels count those of 2^24 tokens in 32 bits.
inline constexpr int kMostPieces = 32;

/// Tokens for which a call's rows by expert are counted on, at least: those of a decode step.
inline constexpr std::int64_t kLeastTokens = 64;

/// For `rows` rows of `row_bytes` bytes. What `wish` leaves open is chosen here, what it asks is cut to what fits.
/// `resident`: blocks that fit at once.
/// Few rows: each is split over the warps of a few blocks; many rows: a warp takes whole rows on all multiprocessors.
/// `idle_blocks`: blocks to have besides those that find an item for every warp, if they fit.
inline Choice choose(const platform::Limits& limits, std::int64_t rows, std::int64_t row_bytes, const Wish& wish,
                     int resident, int idle_blocks = 0) {
  Choice choice;
  if (wish.pieces > 0) choice.pieces = smaller(wish.pieces, kMostPieces);
  if (limits.max_threads == 1) return choice;
  const int most_warps = smaller(kMoveThreads, limits.max_threads) / limits.width;
  const int warps = wish.num_warps > 0 ? smaller(wish.num_warps, most_warps) : most_warps;
  const int most_blocks =
      larger(1, smaller(resident, wish.num_sms > 0 ? wish.num_sms : larger(limits.num_sms, wish.num_blocks)));
  const std::int64_t all_warps = std::int64_t{most_blocks} * warps;
  const std::int64_t most_pieces =
      larger<std::int64_t>(1, row_bytes / (std::int64_t{limits.width} * kPieceBytesPerLane));
  const std::int64_t wanted = larger<std::int64_t>(1, all_warps / larger<std::int64_t>(1, rows));
  const std::int64_t least_pieces = ceil_div<std::int64_t>(row_bytes, kMostPieceBytes);
  if (wish.pieces <= 0)
    choice.pieces =
        static_cast<int>(smaller<std::int64_t>(smaller(larger(wanted, least_pieces), most_pieces), kMostPieces));
  const std::int64_t items = larger<std::int64_t>(1, rows * choice.pieces);
  const std::int64_t blocks =
      wish.num_blocks > 0 ? wish.num_blocks : ceil_div<std::int64_t>(items, warps) + idle_blocks;
  choice.geometry.num_threads = warps * limits.width;
  choice.geometry.num_blocks = static_cast<int>(smaller<std::int64_t>(most_blocks, blocks));
  return choice;
}

}  // namespace crossdock::tuning
