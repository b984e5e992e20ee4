// SPDX-License-Identifier: Apache-2.0
// Rows of small batches in packets: 12 bytes of data and the epoch, stored as one. Whoever sees the epoch sees the data, so
// nothing has to be signalled. They lie in slots by source and token, one set for odd epochs and one for even ones.
#pragma once

#include "types/shape.hpp"

namespace crossdock::ll_packet {

/// A source tells which of its tokens come by the bits of one word.
inline constexpr int kMaxTokens = 32;

/// Up to which a combine whose rows could be pulled is faster in packets: ranks on one H200 (2026-11-23).
inline constexpr int kMaxTokensNotPulled = 8;

/// Whether combine has packets for its rows: those of fewer bits have more values in one than a lane can sum.
constexpr bool carries(Dtype combine_dtype, CombineQuant quant) {
  const bool wide = combine_dtype == Dtype::bf16 || combine_dtype == Dtype::f16 || combine_dtype == Dtype::f32;
  return wide && quant == CombineQuant::none;
}

inline constexpr int kBytes = 16;
inline constexpr int kWords = 3;  // of data

/// What a lane packs at once: three units of a row into four packets.
inline constexpr int kUnitsPacked = 3, kPacketsOfUnits = 4;
inline constexpr int kWidestWarp = 64;

/// LlPackets of a row, whatever the width of a warp: lanes of one pack neighbouring units.
constexpr std::int32_t per_row(std::int64_t row_bytes) {
  const std::int64_t units = round_up<std::int64_t>(row_bytes / 16, kUnitsPacked * kWidestWarp);
  return static_cast<std::int32_t>(units / kUnitsPacked * kPacketsOfUnits);
}

/// An id as it travels: with a bit that says whether it is the first of its token to name its expert, so that the receiver
/// counts pairs by looking at one word.
inline constexpr std::uint32_t kFirst = 1;
XD_FN constexpr std::uint32_t word_of_id(std::int32_t id) { return static_cast<std::uint32_t>(id) << 1; }
XD_FN constexpr std::int32_t id_in(std::uint32_t word) { return static_cast<std::int32_t>(word) >> 1; }
XD_FN constexpr bool is_first(std::uint32_t word) { return (word & kFirst) != 0; }

/// Words that go along with a row: ids, weights, its combine slot, scales.
XD_FN constexpr std::int32_t slot_word(const Shape& shape) { return 2 * shape.top_k; }
XD_FN constexpr std::int32_t words_beside_row(const Shape& shape) {
  return slot_word(shape) + 1 + shape.scale_bytes / 4;
}
XD_FN constexpr std::int32_t per_slot(const Shape& shape) {
  return shape.ll_packets_per_row + ceil_div(words_beside_row(shape), kWords);
}

}  // namespace crossdock::ll_packet
