// SPDX-License-Identifier: Apache-2.0
// Every size that kernels and memory depend on, derived once from a Config. Plain values, equal on all ranks.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"

namespace crossdock {

// Integer arithmetic, for numbers that are not negative.
template <class T>
XD_FN constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}
template <class T>
XD_FN constexpr T round_up(T a, T b) {
  return ceil_div(a, b) * b;
}
template <class T>
XD_FN constexpr T min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
XD_FN constexpr T max(T a, T b) {
  return a < b ? b : a;
}

/// Divides numbers below 2^31 by a divisor known before the launch, with one multiplication and one shift. The
/// instruction sequence of an integer division is ten times as long.
struct Divisor {
  std::uint32_t multiplier;  // ceil(2^(31 + shift) / divisor)
  std::int32_t shift;        // the least with 2^shift >= divisor

  static constexpr Divisor of(std::uint32_t divisor) {
    Divisor by{0, 0};
    while ((std::uint64_t{1} << by.shift) < divisor) ++by.shift;
    by.multiplier = static_cast<std::uint32_t>(ceil_div(std::uint64_t{1} << (31 + by.shift), std::uint64_t{divisor}));
    return by;
  }
  XD_FN constexpr std::uint32_t operator()(std::uint32_t number) const {
    const std::uint32_t twice = 2 * number;
    return static_cast<std::uint32_t>(std::uint64_t{twice} * multiplier >> 32) >> shift;
  }
};

/// 64 bits in shared memory, which the threads of a block set by atomic OR. They are two halves, because an atomic OR
/// of 64 bits in shared memory compiles to a loop of compare-and-swap.
struct Bits {
  std::uint32_t half[2];

  /// A word whose lowest `count` bits are set: none if count <= 0, all if count >= 64.
  static XD_FN constexpr std::uint64_t below(std::int64_t count) {
    return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << max<std::int64_t>(count, 0)) - 1;
  }
  XD_FN constexpr std::uint64_t all() const { return half[0] | std::uint64_t{half[1]} << 32; }
  template <class M>
  XD_FN void set(M& m, int bit) {
    m.or_relaxed(&half[bit / 32], 1u << (bit % 32));
  }
  /// Sets the bits of `bits`, moved up by `first`.
  template <class M>
  XD_FN void set_from(M& m, int first, std::uint64_t bits) {
    bits <<= first;
    if (static_cast<std::uint32_t>(bits)) m.or_relaxed(&half[0], static_cast<std::uint32_t>(bits));
    if (bits >> 32) m.or_relaxed(&half[1], static_cast<std::uint32_t>(bits >> 32));
  }
};

/// Letters: see docs/glossary.md.
struct Shape {
  std::int32_t num_ranks;         // W
  std::int32_t num_experts;       // E
  std::int32_t experts_per_rank;  // L = ceil(E / W)
  Divisor div_experts_per_rank, div_top_k;
  Divisor div_cells;                 // W + 1: numbers that a rank publishes in a dispatch, a row count per rank and T
  std::int32_t top_k;                // k
  std::int32_t ranks_per_token;      // min(k, W): most distinct ranks that a token can name
  std::int32_t max_tokens_per_rank;  // M
  std::int32_t hidden;               // H
  std::int32_t scale_bytes;          // per token
  std::int32_t alignment;            // contiguous layout
  std::int32_t max_in_flight;        // number of buffer sets
  std::int32_t num_plans;            // number of buffer sets + config.max_kept_plans
  std::int32_t trace_events;         // time stamps per buffer set, 0: off
  std::int32_t ll_packets_per_row;   // LL packets of a slot for the row, of dispatch or combine; 0: no packets
  Layout layout;
  bool zero_copy, fused, combine_topk_weights, zero_padding, overflow_is_error, combine_uses_ll;
  std::int64_t row_bytes;          // of dispatch
  std::int64_t combine_row_bytes;  // of combine and of its result
  std::int64_t wire_row_bytes;     // of a combine slot
  std::int64_t row_capacity;       // received rows
  std::int64_t expert_rows;        // rows of the expert buffer, 0 for token_major
  std::int64_t expert_capacity;    // expert_major: per expert; contiguous: in all
  std::int64_t combine_slots;      // rows that peers may write to a home rank
};

/// Number of experts on `rank`: L; fewer or none on the last ranks if W does not divide E.
XD_FN constexpr int local_experts_of(const Shape& shape, int rank) {
  const int first = rank * shape.experts_per_rank;
  return first >= shape.num_experts ? 0 : min(shape.experts_per_rank, shape.num_experts - first);
}

}  // namespace crossdock
