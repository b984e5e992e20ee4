// SPDX-License-Identifier: Apache-2.0
// Moves rows to their ranks. An item is a split of a token's row: one warp loads it once and stores it to every rank of
// the token. The warp that has the first split also sends ids, weights, source and scales.
//
// Software pipelining: a turn is what a warp loads before it stores (wire/fan_out_device.hpp). The first turn of a
// warp's first item is loaded before the wait for counts, that of each later item right after the last store of the
// item before.
#pragma once

#include "kernels/common/phase_device.hpp"
#include "kernels/dispatch/dispatch_shared.hpp"
#include "layout/slots.hpp"
#include "wire/fan_out_device.hpp"

namespace crossdock::kernels {

/// Metadata of a warp's only item, loaded while counts travel. A lane holds one id, one weight and 16 bytes of scales.
struct HeldItem {
  platform::Bytes16 scales;
  std::int32_t id;
  float weight;
};

template <class M, bool kLatency>
struct RowMover {
  M& m;
  const DispatchShared& shared;
  const DispatchArgs& args;
  const Range items;  // of this block: splits of tokens
  const bool holds;   // metadata is held: every warp has at most one item, and every lane at most one id of it
  const Call& call = args.call;
  const Shape& shape = call.shape;
  HeldItem held{};
  wire::Turn<M> turn{};  // loaded, and stored next

  XD_FN bool replay() const { return !kLatency && args.replay; }
  XD_FN std::int64_t token_of(std::int64_t item) const {
    return args.splits.div_count(static_cast<std::uint32_t>(item));
  }

  /// Issues an item's first loads; no-op past the end. dispatch_latency: all its loads.
  XD_FN void load_item(std::int64_t item) {
    if (item >= items.end) return;
    const std::int64_t token = token_of(item);
    const std::byte* row = args.tokens + token * shape.row_bytes;
    const Units units = units_of(split_of(item, token));
    const std::int32_t unit = units.first + m.lane();
    if constexpr (!kLatency)
      wire::load_turn(m, row, unit, units.end, turn);
    else if (unit < units.end)
      turn.bytes[0] = m.load16_streaming(row + std::int64_t{unit} * 16);
  }

  /// Loads the metadata of this warp's only item. Lane i takes id i mod top_k, because it is lane i that sends that id
  /// to the token's rank i / top_k in send_metadata().
  XD_FN void hold_item() {
    const std::int64_t item = items.first + m.warp();
    if (item >= items.end) return;
    const std::int64_t token = token_of(item);
    if (replay() || split_of(item, token) != 0) return;
    const int j = m.lane() - static_cast<int>(shape.div_top_k(m.lane())) * shape.top_k;
    held.id = id_of(token, j);
    held.weight = weight_of(token, j);
    if (holds_scales() && m.lane() < shape.scale_bytes / 16)
      held.scales = m.load16_streaming(args.scales + token * shape.scale_bytes + m.lane() * 16);
  }

  /// Sends one item to all ranks of its token, by one warp. `chunk`: the token whose routes are first in shared.routes.
  XD_FN void move_item(std::uint32_t item, std::uint32_t chunk) {  // 32 bits: 2^24 tokens, 32 splits each
    const std::int64_t token = token_of(item);
    const int split = split_of(item, token);
    const memory::Route* routes = &shared.routes[static_cast<int>(token - chunk) * kMaxRanks];
    if constexpr (kLatency)
      move_held(token, routes, units_of(split), split);
    else
      move_split(item, token, routes, units_of(split), split);
  }

 private:
  XD_FN int split_of(std::int64_t item, std::int64_t token) const {
    return static_cast<int>(item - token * args.splits.count);
  }
  XD_FN Units units_of(int split) const {
    return units_of_split(static_cast<std::int32_t>(shape.row_bytes / 16), split, args.splits.units_per_split);
  }
  XD_FN bool holds_scales() const {
    return kLatency || (holds && args.aligned_scales && shape.scale_bytes / 16 <= M::kWidth);
  }
  XD_FN std::int32_t id_of(std::int64_t token, int j) const {
    return args.topk_ids.get(token * shape.top_k + j, shape);
  }
  XD_FN float weight_of(std::int64_t token, int j) const {
    return args.topk_weights ? args.topk_weights[token * shape.top_k + j] : 1.0f;
  }

  /// Returns a function of o: the address of the token's row in `region` of its o-th rank; null if that rank drops the
  /// row or there is none.
  XD_FN auto rows_in(std::uint64_t region, std::int64_t row_bytes, const memory::Route* routes) const {
    return [=, this](int o) {
      const memory::Route to = routes[o];
      return to.row < 0 ? wire::PeerPtr() : call.remote(to.rank, region) + to.row * row_bytes;
    };
  }

  /// Turn 0 is in registers already. Turn 0 of the warp's next item is loaded after the last store.
  XD_FN void move_split(std::uint32_t item, std::int64_t token, const memory::Route* routes, Units units, int split) {
    const auto to = rows_in(call.buffer_set.rows, shape.row_bytes, routes);
    std::int32_t unit = units.first + m.lane();
    wire::store_turn(m, turn, unit, units.end, shape.ranks_per_token, to);
    for (unit += wire::kUnitsPerTurn<M>; unit < units.end; unit += wire::kUnitsPerTurn<M>) {
      wire::load_turn(m, args.tokens + token * shape.row_bytes, unit, units.end, turn);
      wire::store_turn(m, turn, unit, units.end, shape.ranks_per_token, to);
    }
    load_item(std::int64_t{item} + m.num_warps());
    if (split != 0) return;
    if (!replay()) send_metadata(token, routes);
    if (shape.scale_bytes != 0) send_scales(token, routes);
  }

  /// dispatch_latency: a lane has at most one unit of the row, and one of the scales.
  XD_FN void move_held(std::int64_t token, const memory::Route* routes, Units units, int split) {
    const std::int64_t unit = units.first + m.lane();
    const bool has_scales = split == 0 && m.lane() < shape.scale_bytes / 16;
    for (int o = 0; o < shape.ranks_per_token; ++o) {
      const memory::Route to = routes[o];
      if (to.row < 0) continue;
      const wire::PeerPtr row = call.remote(to.rank, call.buffer_set.rows) + to.row * shape.row_bytes;
      if (unit < units.end) (row + unit * 16).put16(m, turn.bytes[0]);
      const wire::PeerPtr scales =
          call.remote(to.rank, call.buffer_set.scales) + to.row * std::int64_t{shape.scale_bytes};
      if (has_scales) (scales + m.lane() * 16).put16(m, held.scales);
    }
    if (split == 0) send_metadata(token, routes);
  }

  XD_FN void send_scales(std::int64_t token, const memory::Route* routes) {
    const auto to = rows_in(call.buffer_set.scales, shape.scale_bytes, routes);
    if (!holds_scales() || replay())
      wire::fan_out_bytes(m, args.scales + token * shape.scale_bytes, shape.scale_bytes, args.aligned_scales,
                          shape.ranks_per_token, to);
    else if (m.lane() < shape.scale_bytes / 16)
      wire::store_to_all(m, held.scales, m.lane(), shape.ranks_per_token, to);
  }

  /// Sends ids, weights and source of a token to all its ranks, a lane per rank and id. The source names home rank,
  /// token and the combine slot to which combine sends the result.
  XD_FN void send_metadata(std::int64_t token, const memory::Route* routes) {
    const layout::CountMatrix matrix{shared.matrix, shape.num_ranks};
    for (int i = m.lane(); i < shape.ranks_per_token * shape.top_k; i += M::kWidth) {
      const int o = shape.div_top_k(i), j = i - o * shape.top_k;
      const memory::Route to = routes[o];
      if (to.row < 0) continue;
      const wire::PeerPtr plan = call.remote_plan(to.rank, matrix.plan(to.rank), 0);
      const bool is_held = holds && i == m.lane();
      const std::int64_t at = std::int64_t{to.row} * shape.top_k + j;
      (plan + (call.plan.topk_ids + at * 4)).put(is_held ? held.id : id_of(token, j));
      (plan + (call.plan.topk_weights + at * 4)).put(is_held ? held.weight : weight_of(token, j));
      if (j != 0) continue;
      const RowSource source = {call.peers.rank, static_cast<std::int32_t>(token),
                                static_cast<std::int32_t>(layout::combine_slot(token, o, shape)), 0};
      (plan + (call.plan.sources + to.row * sizeof(RowSource))).put(source);
    }
  }
};

}  // namespace crossdock::kernels
