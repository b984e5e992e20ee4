// SPDX-License-Identifier: Apache-2.0
// Copies a received row into the expert buffer, once for each of its local experts.
#pragma once

#include "kernels/common/phase_device.hpp"
#include "wire/fan_out_device.hpp"

namespace crossdock::kernels {

template <class M>
struct RowCopier {
  M& m;
  const ExpertRowsArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;

  /// Copies one split of a received row to all its experts, by one warp. `find_slots` fills `slots`. It is called after
  /// the first loads are issued, so that they overlap.
  template <class FindSlots>
  XD_FN void copy_row(std::int64_t row, const std::int32_t* slots, int split, FindSlots&& find_slots) {
    const Units units =
        units_of_split(static_cast<std::int32_t>(shape.row_bytes / 16), split, args.splits.units_per_split);
    const std::byte* from = call.local<std::byte>(call.buffer_set.rows) + row * shape.row_bytes;
    wire::Turn<M> turn;
    wire::load_turn(m, from, units.first + m.lane(), units.end, turn);
    find_slots();
    const auto slot_in = [&](std::uint64_t region, std::int64_t bytes) {
      return [=, this](int j) {
        return slots[j] < 0 ? wire::PeerPtr() : call.remote(call.peers.rank, region) + slots[j] * bytes;
      };
    };
    const auto to = slot_in(call.buffer_set.expert_rows, shape.row_bytes);
    wire::store_turn(m, turn, units.first + m.lane(), units.end, shape.top_k, to);
    wire::fan_out(m, from, units.first + wire::kUnitsPerTurn<M>, units.end, shape.top_k, to);
    if (split == 0 && shape.scale_bytes)
      wire::fan_out_bytes(m, call.local<std::byte>(call.buffer_set.scales) + row * shape.scale_bytes, shape.scale_bytes,
                          shape.scale_bytes % 16 == 0, shape.top_k,
                          slot_in(call.buffer_set.expert_scales, shape.scale_bytes));
  }
};

}  // namespace crossdock::kernels
