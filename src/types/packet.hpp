// SPDX-License-Identifier: Apache-2.0
// Rows of small batches in packets: 12 bytes of data and the epoch, stored as one. Whoever sees the epoch sees the data, so
// nothing has to be signalled. They lie in slots by source and token, one set for odd epochs and one for even ones.
#pragma once

#include "types/shape.hpp"

namespace crossdock::packet {

/// A source tells which of its tokens come by the bits of one word.
inline constexpr int kMostTokens = 32;

/// Up to which a combine whose rows could be pulled is faster in packets: ranks on one H200 (2026-11-23).
inline constexpr int kMostTokensNotPulled = 8;

/// Whether combine has packets for its rows: those of fewer bits have more values in one than a lane can sum.
constexpr bool carries(Dtype combine_dtype, Wire wire) {
  const bool wide = combine_dtype == Dtype::bf16 || combine_dtype == Dtype::f16 || combine_dtype == Dtype::f32;
  return wide && wire == Wire::own;
}

inline constexpr int kBytes = 16;
inline constexpr int kWords = 3;  // of data

/// What a lane packs at once: three units of a row into four packets.
inline constexpr int kUnitsPacked = 3, kPacketsOfUnits = 4;
inline constexpr int kWidestWarp = 64;

/// Packets of a row, whatever the width of a warp: lanes of one pack neighbouring units.
constexpr std::int32_t per_row(std::int64_t row_bytes) {
  const std::int64_t units = round_up<std::int64_t>(row_bytes / 16, std::int64_t{kUnitsPacked} * kWidestWarp);
  return static_cast<std::int32_t>(units / kUnitsPacked * kPacketsOfUnits);
}

/// An id as it travels: with a bit that says whether it is the first of its token to name its expert, so that the receiver
/// counts pairs by looking at one word.
inline constexpr std::uint32_t kFirst = 1;
XD_FN constexpr std::uint32_t word_of_id(std::int32_t id) { return static_cast<std::uint32_t>(id) << 1; }
XD_FN constexpr std::int32_t id_in(std::uint32_t word) { return static_cast<std::int32_t>(word) >> 1; }
XD_FN constexpr bool is_first(std::uint32_t word) { return (word & kFirst) != 0; }

/// Words that go along with a row: ids, weights, its landing row, scales.
XD_FN constexpr std::int32_t landing_word(const Shape& shape) { return 2 * shape.top_k; }
XD_FN constexpr std::int32_t words_beside_row(const Shape& shape) {
  return landing_word(shape) + 1 + shape.scale_bytes / 4;
}
XD_FN constexpr std::int32_t per_slot(const Shape& shape) {
  return shape.packets_of_row + ceil_div(words_beside_row(shape), kWords);
}

}  // namespace crossdock::packet
