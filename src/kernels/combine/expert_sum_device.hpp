// SPDX-License-Identifier: Apache-2.0
// The row that a rank sends to the home rank in the layouts by expert: the weighted sum of the expert rows of one
// received row, in the order of its ids.
#pragma once

#include "kernels/common/args.hpp"

namespace crossdock::kernels {

template <class M, class Row>
struct ExpertSum {
  using Bytes16 = platform::Bytes16;
  using Floats = platform::Floats;

  /// Ids whose expert rows are loaded at once. Fewer for warps of 64: each id loads more bytes there, and the scalar
  /// registers do not suffice for more ids.
  static constexpr int kAtOnce = min(M::kWidth <= 32 ? 8 : 4, Row::kPacksAtOnce / (Row::kUnitsAtOnce * Row::kRowPacks));

  /// Expert rows of neighbouring ids and their weights; null where an id has none here.
  struct Some {
    const std::byte* row[kAtOnce];
    float weight[kAtOnce];
  };

  M& m;
  const Call& call;
  const std::byte* rows;   // expert rows: the outputs of the caller's experts
  const std::int64_t row;  // index of the received row

  /// Adds the sum to `values`, the units unit, unit + kWidth, ... of a lane, as far as they lie before `end`.
  template <int kUnits>
  XD_FN void add_to(Floats (*values)[Row::kFloats], std::int32_t unit, std::int32_t end) {
    for (int id = 0; id < call.shape.top_k; id += kAtOnce) add_some<kUnits>(some_from(id), values, unit, end);
  }

  /// Looks up ids [id, id + kAtOnce) of the received row: the expert row of each, and its weight.
  XD_FN Some some_from(int id) const {
    const std::int32_t* slots = call.local<std::int32_t>(call.plan.expert_of_row) + row * call.shape.top_k + id;
    std::int32_t slot[kAtOnce];
    XD_UNROLL(8)
    for (int e = 0; e < kAtOnce; ++e) slot[e] = id + e < call.shape.top_k ? slots[e] : -1;
    Some some{};
    XD_UNROLL(8)
    for (int e = 0; e < kAtOnce; ++e) {
      if (slot[e] < 0) continue;
      some.row[e] = rows + slot[e] * call.shape.combine_row_bytes;
      some.weight[e] = call.local<float>(call.plan.expert_weights)[slot[e]];
    }
    return some;
  }

  /// Loads all units of all rows first, then adds: each product and each sum is rounded to f32 by itself.
  template <int kUnits>
  XD_FN void add_some(const Some& some, Floats (*values)[Row::kFloats], std::int32_t unit, std::int32_t end) {
    Bytes16 packs[kUnits][kAtOnce][Row::kRowPacks] = {};
    XD_UNROLL(8)
    for (int e = 0; e < kAtOnce; ++e) {
      XD_UNROLL(8)
      for (int u = 0; u < kUnits; ++u)
        if (some.row[e] && unit + u * M::kWidth < end)
          Row::load_packs(m, some.row[e], unit + u * M::kWidth, call.shape.combine_row_bytes, packs[u][e]);
    }
    XD_UNROLL(8)
    for (int u = 0; u < kUnits; ++u) {
      if (unit + u * M::kWidth >= end) break;
      XD_UNROLL(8)
      for (int e = 0; e < kAtOnce; ++e) {
        if (!some.row[e]) continue;
        Floats part[Row::kFloats];
        Row::widen_packs(packs[u][e], part);
        XD_UNROLL(32)
        for (int i = 0; i < Row::kFloats; ++i) {
          const Floats product = some.weight[e] * part[i];
          values[u][i] = values[u][i] + product;
        }
      }
    }
  }
};

}  // namespace crossdock::kernels
