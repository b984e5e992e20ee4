// SPDX-License-Identifier: Apache-2.0
// Every size that kernels and memory depend on, derived once from a Config. Plain values, the same on all ranks.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"

namespace crossdock {

template <class T>
XD_FN constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}
template <class T>
XD_FN constexpr T round_up(T a, T b) {
  return ceil_div(a, b) * b;
}
template <class T>
XD_FN constexpr T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
XD_FN constexpr T larger(T a, T b) {
  return a < b ? b : a;
}

/// Division of numbers below 2^31 by a number that is known before the kernel begins: a multiplication and a shift, where
/// the instruction sequence of a division is ten times as long.
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

/// 64 bits that threads of a block set; halves, for a shared-memory OR of 64 bits is a loop of exchanges.
struct Bits {
  std::uint32_t half[2];

  /// The first `count` bits, however many are asked for.
  static XD_FN constexpr std::uint64_t below(std::int64_t count) {
    return count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << larger<std::int64_t>(count, 0)) - 1;
  }
  XD_FN constexpr std::uint64_t all() const { return half[0] | std::uint64_t{half[1]} << 32; }
  template <class M>
  XD_FN void set(M& m, int bit) {
    m.or_relaxed(&half[bit / 32], 1u << (bit % 32));
  }
  template <class M>
  XD_FN void set_from(M& m, int first, std::uint64_t bits) {
    bits <<= first;
    if (static_cast<std::uint32_t>(bits)) m.or_relaxed(&half[0], static_cast<std::uint32_t>(bits));
    if (bits >> 32) m.or_relaxed(&half[1], static_cast<std::uint32_t>(bits >> 32));
  }
};

struct Shape {
  std::int32_t num_ranks;         // W
  std::int32_t num_experts;       // E
  std::int32_t experts_per_rank;  // L = ceil(E / W)
  Divisor by_experts_per_rank, by_top_k;
  Divisor by_cells;              // W + 1: what a rank tells of its counts
  std::int32_t top_k;            // k
  std::int32_t ranks_per_token;  // min(k, W): the most distinct ranks a token can name
  std::int32_t max_tokens;       // M
  std::int32_t hidden;           // H
  std::int32_t scale_bytes;      // per token
  std::int32_t alignment;        // contiguous layout
  std::int32_t in_flight;        // places
  std::int32_t num_plans;        // places + kept plans
  std::int32_t trace_events;     // time stamps per place, 0 = off
  std::int32_t packets_of_row;   // small batches: packets in which a row travels; 0: rows travel as they are
  Layout layout;
  bool zero_copy, fused, combine_weights, zero_padding, overflow_is_error, combine_in_packets;
  std::int64_t row_bytes;          // of dispatch
  std::int64_t combine_row_bytes;  // of combine and of its result
  std::int64_t wire_row_bytes;     // of a landing row
  std::int64_t row_capacity;       // received rows
  std::int64_t expert_rows;        // rows of the expert buffer, 0 for token_major
  std::int64_t expert_capacity;    // expert_major: per expert; contiguous: in all
  std::int64_t landing_rows;       // rows that peers may push to a home rank
};

/// Experts that live on `rank`: L, fewer on the last ranks where W does not divide E.
XD_FN constexpr int local_experts_of(const Shape& shape, int rank) {
  const int first = rank * shape.experts_per_rank;
  return first >= shape.num_experts ? 0 : smaller(shape.experts_per_rank, shape.num_experts - first);
}

}  // namespace crossdock
