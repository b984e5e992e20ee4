// SPDX-License-Identifier: Apache-2.0
// WHERE a row goes: its index in the receive buffer, the combine slots and the expert buffer, from counts alone.
#pragma once

#include <cstdint>

#include "types/shape.hpp"

namespace crossdock::layout {

/// The last cell that a rank publishes, after its row counts. Low kTokenBits bits: T, its number of tokens. Above: the
/// index of the plan that this dispatch writes on that rank.
inline constexpr int kTokenBits = 24;
XD_FN constexpr std::uint64_t token_cell(std::int64_t tokens, int plan) {
  return static_cast<std::uint64_t>(tokens) | static_cast<std::uint64_t>(plan) << kTokenBits;
}

/// Row counts from every rank to every rank: [W][W + 1] cells, where W is the number of ranks. Line s is what rank s
/// has published: a count per destination, then its token_cell.
struct CountMatrix {
  const std::uint64_t* cells;
  std::int32_t num_ranks;

  XD_FN std::int64_t rows(int source, int destination) const { return cells[source * (num_ranks + 1) + destination]; }
  XD_FN std::int64_t tokens(int source) const {
    return cells[source * (num_ranks + 1) + num_ranks] & ((std::uint64_t{1} << kTokenBits) - 1);
  }
  XD_FN int plan(int source) const {
    return static_cast<int>(cells[source * (num_ranks + 1) + num_ranks] >> kTokenBits);
  }

  /// First received row of `source` at `destination`: rows are in the order of their sources.
  XD_FN std::int64_t first_row(int source, int destination) const {
    std::int64_t first = 0;
    for (int s = 0; s < source; ++s) first += rows(s, destination);
    return first;
  }
  /// Received rows of `destination`, those past its capacity included.
  XD_FN std::int64_t rows_needed(int destination) const { return first_row(num_ranks, destination); }

  /// How many rows of `source` lie below the capacity of `destination`; the others are dropped.
  XD_FN std::int64_t kept_rows(int source, int destination, std::int64_t capacity) const {
    const std::int64_t first = first_row(source, destination);
    return first >= capacity ? 0 : min(rows(source, destination), capacity - first);
  }
};

/// Combine slot at the home rank for the `ordinal`-th distinct rank that `token` names.
XD_FN constexpr std::int64_t combine_slot(std::int64_t token, int ordinal, const Shape& shape) {
  return token * shape.ranks_per_token + ordinal;
}

/// Combine slot of id j of `token` on the fused path: one slot per (token, id).
XD_FN constexpr std::int64_t fused_combine_slot(std::int64_t token, int j, const Shape& shape) {
  return token * shape.top_k + j;
}

/// Slot of the LL packets of `token`; even and odd epochs use different sets of slots. `source` is the rank that sends
/// them: the home rank in dispatch, the rank of the expert in combine.
XD_FN constexpr std::int64_t ll_slot(std::uint64_t epoch, int source, std::int64_t token, const Shape& shape) {
  const std::int64_t set = static_cast<std::int64_t>(epoch & 1) * shape.num_ranks + source;
  return set * shape.max_tokens_per_rank + token;
}

/// First of the mask words of an epoch, which have the shape of the count matrix.
XD_FN constexpr int ll_masks(std::uint64_t epoch, const Shape& shape) {
  return static_cast<int>(epoch & 1) * shape.num_ranks * (shape.num_ranks + 1);
}

/// Rows that an expert with `count` rows takes up in layout contiguous, padding included. In other layouts: `count`.
XD_FN constexpr std::int64_t padded_rows(std::int64_t count, const Shape& shape) {
  return shape.layout == Layout::contiguous ? round_up<std::int64_t>(count, shape.alignment) : count;
}

/// How many of an expert's `count` rows fit if its first row is `first`.
XD_FN constexpr std::int64_t fitting_rows(std::int64_t first, std::int64_t count, const Shape& shape) {
  if (shape.layout == Layout::expert_major) return min(count, shape.expert_capacity);
  return first >= shape.expert_capacity ? 0 : min(count, shape.expert_capacity - first);
}

}  // namespace crossdock::layout
