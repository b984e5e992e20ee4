// SPDX-License-Identifier: Apache-2.0
// LL (low-latency) packets, as in NCCL's LL protocol: the form of rows in small batches. A packet is 12 bytes of data
// and a 4-byte flag, the epoch, stored as one access. A reader that sees the epoch also sees the data, so rows in
// packets need no signal. Packets lie in slots by source and token; odd and even epochs use different sets of slots.
#pragma once

#include "types/shape.hpp"

namespace crossdock::ll_packet {

/// Most tokens per rank for packets: a source announces each of its tokens by one of 32 bits in a word.
inline constexpr int kMaxTokens = 32;

/// Most tokens per rank for which a combine in packets is faster than one that pulls rows. Measured with all ranks on
/// one H200 (2026-11-23).
inline constexpr int kMaxTokensNotPulled = 8;

/// Whether combine sends rows of this form in packets. Elements of fewer than 16 bits do not: a packet would hold more
/// values than a lane can sum.
constexpr bool carries(Dtype combine_dtype, CombineQuant quant) {
  const bool wide = combine_dtype == Dtype::bf16 || combine_dtype == Dtype::f16 || combine_dtype == Dtype::f32;
  return wide && quant == CombineQuant::none;
}

inline constexpr int kBytes = 16;
inline constexpr int kWords = 3;  // of data

/// A lane packs three 16-byte units of a row into four packets at a time.
inline constexpr int kUnitsPacked = 3, kPacketsOfUnits = 4;
inline constexpr int kWidestWarp = 64;

/// Packets of a row. Rounded up so that the lanes of a warp of any width pack neighbouring units.
constexpr std::int32_t per_row(std::int64_t row_bytes) {
  const std::int64_t units = round_up<std::int64_t>(row_bytes / 16, std::int64_t{kUnitsPacked} * kWidestWarp);
  return static_cast<std::int32_t>(units / kUnitsPacked * kPacketsOfUnits);
}

/// An id in a packet is (id << 1) | first. `first` is 1 for the first id of the token that names its expert. The
/// receiver counts (token, expert) pairs by this bit, without comparing ids.
inline constexpr std::uint32_t kFirst = 1;
XD_FN constexpr std::uint32_t word_of_id(std::int32_t id) { return static_cast<std::uint32_t>(id) << 1; }
XD_FN constexpr std::int32_t id_in(std::uint32_t word) { return static_cast<std::int32_t>(word) >> 1; }
XD_FN constexpr bool is_first(std::uint32_t word) { return (word & kFirst) != 0; }

/// The words of 32 bits that are sent with a row: k ids, k weights, the combine slot, the scales. slot_word: index of
/// the combine slot; words_beside_row: their number; per_slot: packets of a row with its words.
XD_FN constexpr std::int32_t slot_word(const Shape& shape) { return 2 * shape.top_k; }
XD_FN constexpr std::int32_t words_beside_row(const Shape& shape) {
  return slot_word(shape) + 1 + shape.scale_bytes / 4;
}
XD_FN constexpr std::int32_t per_slot(const Shape& shape) {
  return shape.ll_packets_per_row + ceil_div(words_beside_row(shape), kWords);
}

}  // namespace crossdock::ll_packet
