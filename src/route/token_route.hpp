// SPDX-License-Identifier: Apache-2.0
// WHO: the ranks that a token goes to, from its ids.
#pragma once

#include <cstdint>

#include "types/shape.hpp"

namespace crossdock::route {

/// Distinct ranks of one token in the order in which its ids first name them, four bits each.
struct TokenRoute {  // no initialisers: it lies in shared memory
  std::uint32_t ranks;   // nibble o = o-th distinct rank
  std::uint32_t mask;    // bit d = rank d is named
  std::int32_t count;
  std::int32_t bad_ids;  // outside [-1, E)

  XD_FN constexpr int rank(int ordinal) const { return (ranks >> (4 * ordinal)) & 15; }
  XD_FN constexpr void name(int rank) {
    if (mask >> rank & 1) return;
    mask |= 1u << rank;
    ranks |= static_cast<std::uint32_t>(rank) << (4 * count++);
  }
};

/// Ids of a call, of either width.
struct Ids {
  const void* data;
  bool is_int64;

  XD_FN std::int64_t raw(std::int64_t index) const {
    return is_int64 ? static_cast<const std::int64_t*>(data)[index] : static_cast<const std::int32_t*>(data)[index];
  }
  /// Id as the rows carry it: valid, or -1.
  XD_FN std::int32_t get(std::int64_t index, std::int32_t num_experts) const {
    const std::int64_t id = raw(index);
    return id >= 0 && id < num_experts ? static_cast<std::int32_t>(id) : -1;
  }
};

/// Rank of an expert in [0, E): expert / L, exact for E up to 2^20.
XD_FN constexpr int owner_of(int expert, const Shape& shape) {
  return static_cast<int>(static_cast<std::uint64_t>(expert) * shape.owner_magic >> 40);
}

inline constexpr int kIdsAtOnce = 8;  // loads in flight per token

XD_FN TokenRoute route_token(const Ids& ids, std::int64_t token, const Shape& shape) {
  TokenRoute route{};
  for (int first = 0; first < shape.top_k; first += kIdsAtOnce) {
    std::int64_t id[kIdsAtOnce];
    XD_UNROLL(8)
    for (int i = 0; i < kIdsAtOnce; ++i) id[i] = first + i < shape.top_k ? ids.raw(token * shape.top_k + first + i) : -1;
    XD_UNROLL(8)
    for (int i = 0; i < kIdsAtOnce; ++i) {
      if (id[i] >= 0 && id[i] < shape.num_experts)
        route.name(owner_of(static_cast<std::int32_t>(id[i]), shape));
      else
        route.bad_ids += id[i] != -1;
    }
  }
  return route;
}

/// True if id j is the first of its token to name its expert: a repeated id adds its weight, not a row.
template <class IdOf>
XD_FN bool first_of_its_expert(IdOf&& id_of, int j) {
  const std::int32_t id = id_of(j);
  for (int i = 0; i < j; ++i)
    if (id_of(i) == id) return false;
  return true;
}

/// Weight of the expert that id j names first: all its occurrences in id order, added in f32 from +0.
XD_FN float weight_of_expert(const std::int32_t* ids, const float* weights, int j, int top_k) {
  float sum = 0.0f;
  for (int i = j; i < top_k; ++i)
    if (ids[i] == ids[j]) sum = sum + weights[i];
  return sum;
}

}  // namespace crossdock::route
