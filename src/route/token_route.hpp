// SPDX-License-Identifier: Apache-2.0
// WHO: whose a token's ids are, and what a repeated id means.
#pragma once

#include <cstdint>

#include "types/shape.hpp"

namespace crossdock::route {

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

/// Rank of an expert in [0, E).
XD_FN constexpr int owner_of(int expert, const Shape& shape) {
  return static_cast<int>(shape.div_experts_per_rank(static_cast<std::uint32_t>(expert)));
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
