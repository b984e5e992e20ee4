// SPDX-License-Identifier: Apache-2.0
// WHO gets a token: which ranks it goes to, in which order its ids name them, and what a repeated id means.
#pragma once

#include <cstdint>

#include "types/shape.hpp"

namespace crossdock::route {

/// Rank that owns an expert in [0, E), where E is the number of experts.
XD_FN constexpr int owner_of(int expert, const Shape& shape) {
  return static_cast<int>(shape.div_experts_per_rank(static_cast<std::uint32_t>(expert)));
}

XD_FN constexpr bool is_expert(std::int64_t id, const Shape& shape) { return id >= 0 && id < shape.num_experts; }

/// The top-k ids of a call, of 32 or 64 bits; `index` is token * top_k + j.
struct Ids {
  const void* data;
  bool is_int64;

  XD_FN std::int64_t raw(std::int64_t index) const {
    return is_int64 ? static_cast<const std::int64_t*>(data)[index] : static_cast<const std::int32_t*>(data)[index];
  }
  /// The id as it travels with a row: an expert, or -1 for every other value.
  XD_FN std::int32_t get(std::int64_t index, const Shape& shape) const {
    const std::int64_t id = raw(index);
    return is_expert(id, shape) ? static_cast<std::int32_t>(id) : -1;
  }
};

/// Rank that a valid id names; -1 for an id that names none.
XD_FN constexpr int rank_of(std::int64_t id, const Shape& shape) {
  return is_expert(id, shape) ? owner_of(static_cast<int>(id), shape) : -1;
}

/// Number of rank d among the distinct ranks of a token: 0, 1, ... in the order in which its ids first name them.
/// named_by(e) returns a mask; bit j: id j names an expert of rank e. It must not be 0 for d.
template <class NamedBy>
XD_FN int ordinal_of(NamedBy&& named_by, int d) {
  const std::uint64_t ids = named_by(d), lower_ids = (ids & (~ids + 1)) - 1;  // those before the first that names d
  int ordinal = 0;
  XD_UNROLL(8)
  for (int e = 0; e < kMaxRanks; ++e) ordinal += (named_by(e) & lower_ids) != 0;
  return ordinal;
}

/// Distinct ranks that a token names.
template <class NamedBy>
XD_FN int num_ranks_named(NamedBy&& named_by) {
  int named = 0;
  XD_UNROLL(8)
  for (int e = 0; e < kMaxRanks; ++e) named += named_by(e) != 0;
  return named;
}

/// True if id j is the first of its token to name its expert: a repeated id adds its weight, not a row.
template <class IdOf>
XD_FN bool first_of_its_expert(IdOf&& id_of, int j) {
  const std::int32_t id = id_of(j);
  for (int i = 0; i < j; ++i)
    if (id_of(i) == id) return false;
  return true;
}

/// Local expert of `rank` that id j of a received row is the first to name; -1 if there is none.
XD_FN int local_expert_of(const std::int32_t* ids, int j, int rank, const Shape& shape) {
  const int local = ids[j] - rank * shape.experts_per_rank;
  if (ids[j] < 0 || local < 0 || local >= shape.experts_per_rank) return -1;
  return first_of_its_expert([&](int i) { return ids[i]; }, j) ? local : -1;
}

/// Weight of the expert that id j is the first to name: the sum of the weights of all ids that name it, in id order, in
/// f32 from +0.
XD_FN float weight_of_expert(const std::int32_t* ids, const float* weights, int j, int top_k) {
  float sum = 0.0f;
  for (int i = j; i < top_k; ++i)
    if (ids[i] == ids[j]) sum = sum + weights[i];
  return sum;
}

}  // namespace crossdock::route
