// SPDX-License-Identifier: Apache-2.0
// WHO: the ranks that a token's ids name, and the meaning of repeated ids.
#pragma once

#include <cstdint>

#include "types/shape.hpp"

namespace crossdock::route {

/// The topk_ids of a call, int32 or int64.
struct Ids {
  const void* data;
  bool is_int64;

  XD_FN std::int64_t raw(std::int64_t index) const {
    return is_int64 ? static_cast<const std::int64_t*>(data)[index] : static_cast<const std::int32_t*>(data)[index];
  }
  /// The id as rows carry it: in [0, num_experts), or -1.
  XD_FN std::int32_t get(std::int64_t index, std::int32_t num_experts) const {
    const std::int64_t id = raw(index);
    return id >= 0 && id < num_experts ? static_cast<std::int32_t>(id) : -1;
  }
};

/// Rank of expert `expert`, in [0, E).
XD_FN constexpr int owner_of(int expert, const Shape& shape) {
  return static_cast<int>(shape.div_experts_per_rank(static_cast<std::uint32_t>(expert)));
}

/// Whether id j is the first of its token that names its expert. A repeated id adds its weight, not a row.
template <class IdOf>
XD_FN bool first_of_its_expert(IdOf&& id_of, int j) {
  const std::int32_t id = id_of(j);
  for (int i = 0; i < j; ++i)
    if (id_of(i) == id) return false;
  return true;
}

/// Weight of the expert that id j names first: the weights of all ids that name it, added in f32 in id order from +0.
XD_FN float weight_of_expert(const std::int32_t* ids, const float* weights, int j, int top_k) {
  float sum = 0.0f;
  for (int i = j; i < top_k; ++i)
    if (ids[i] == ids[j]) sum = sum + weights[i];
  return sum;
}

}  // namespace crossdock::route
