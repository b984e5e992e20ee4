// SPDX-License-Identifier: Apache-2.0
// combine of small batches in one hop: every rank stores its rows, in packets, into slots at their homes, and a home sums what
// comes. No row is signalled, nobody meets, and nothing is pulled.
//
// Written by: this rank into the slots of the homes of its rows; the result at the home.
// Read by: the caller after the kernel.
// Edges: ready, of which the word tells only that its sender has begun, and in what manner; that a row has come, its packets
//        tell. No enter: slots are there twice, see dispatch_packets_device.hpp, and landing rows are not used.
#pragma once

#include "kernels/combine_device.hpp"
#include "kernels/packets_device.hpp"

namespace crossdock::kernels {

template <class M, Dtype kDtype>
struct CombineInPackets {
  using Row = codec::WireRow<kDtype, Wire::own>;
  /// Ranks whose packets a lane asks for at once; more spill on sm_90.
  static constexpr int kAtOnce = Row::kValues <= 8 ? 4 : Row::kValues <= 16 ? 2 : 1;

  M& m;
  const CombineArgs& args;
  Combine<M, kDtype, Wire::own, false> whole{m, args};
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const Packets<M> packets{m, call, whole.epoch};
  const std::uint32_t parts = Packets<M>::parts_of(shape.combine_row_bytes);
  const std::uint32_t first = m.block() * m.num_warps() + m.warp(), step = m.num_blocks() * m.num_warps();

  XD_FN void run() {
    whole.mark(Phase::begin);
    if (m.any_in_block(told_failure(m, call, whole.poison))) return;
    if (m.block() == 0) whole.tell(call.place.ready_words, false);  // edge ready: signal
    whole.mark(Phase::send);
    send_rows();
    const std::uint32_t items = static_cast<std::uint32_t>(whole.num_planned()) * parts;
    whole.mark(Phase::wait_ready);
    if (!whole.await(call.place.ready_words, Edge::ready, Phase::wait_ready)) return;  // edge ready: wait
    whole.mark(Phase::reduce);
    bool ok = true;
    for (std::uint32_t item = first; item < items && ok; item += step) ok = sum(item / parts, item % parts);
    advance_clock(m, whole_block(m), call, whole.epoch, true);
    whole.mark(Phase::end);
  }

  /// A warp takes a part of a row. Where its first goes is read while the number of rows is.
  XD_FN void send_rows() {
    const RowSource* sources = call.mine<RowSource>(call.plan.sources);
    RowSource home = sources[smaller<std::int64_t>(first / parts, shape.row_capacity - 1)];
    const std::uint32_t items = static_cast<std::uint32_t>(call.mine<Counts>(call.plan.counts)->num_rows) * parts;
    for (std::uint32_t item = first; item < items; item += step) {
      const std::uint32_t row = item / parts, part = item % parts;
      if (item != first) home = sources[row];
      const auto units = packets.load(args.rows + row * shape.combine_row_bytes, shape.combine_row_bytes, part);
      packets.store(packets.slot(home.rank, call.peers.rank, home.token), part, units);  // edge ready: signal
    }
  }

  /// Sum over distinct ranks, in the order in which the token's ids first name them. False: the group has failed.
  XD_FN bool sum(std::int64_t token, int part) {
    const memory::Route* routes = call.mine<memory::Route>(call.plan.routes) + token * shape.ranks_per_token;
    platform::Floats sums[packet::kUnitsPacked][Row::kFloats];
    XD_UNROLL(3)
    for (int i = 0; i < packet::kUnitsPacked; ++i) {
      XD_UNROLL(32)
      for (int f = 0; f < Row::kFloats; ++f) sums[i][f] = platform::Floats{};
    }
    bool ok = true;
    for (int o = 0; o < shape.ranks_per_token && ok; o += kAtOnce) ok = add_some(token, part, routes, o, sums);
    std::byte* out = args.out + token * shape.combine_row_bytes;
    XD_UNROLL(3)
    for (int i = 0; i < packet::kUnitsPacked; ++i)
      if (const int u = packets.unit_at(part, i); ok && u < whole.num_units)
        Row::store_row(m, out, u, shape.combine_row_bytes, sums[i]);
    return ok;
  }

  /// Adds what ranks [o, o + kAtOnce) of the token have sent.
  template <class Sums>
  XD_FN bool add_some(std::int64_t token, int part, const memory::Route* routes, int o, Sums& sums) {
    const platform::Bytes16* slots[kAtOnce];
    typename Packets<M>::Seen seen[kAtOnce] = {};
    XD_UNROLL(4)
    for (int q = 0; q < kAtOnce; ++q) {
      const bool comes = o + q < shape.ranks_per_token && routes[o + q].row >= 0;
      slots[q] = comes ? packets.slot(call.peers.rank, routes[o + q].rank, static_cast<int>(token)) : nullptr;
      if (comes) seen[q] = packets.look(slots[q], part);
    }
    bool ok = true;
    XD_UNROLL(4)
    for (int q = 0; q < kAtOnce; ++q) {
      if (!slots[q]) continue;
      ok = ok && packets.take(slots[q], part, Edge::ready, routes[o + q].rank, &seen[q]);
      XD_UNROLL(3)
      for (int i = 0; i < packet::kUnitsPacked; ++i)
        whole.add_unit(nullptr, Packets<M>::unit_of(seen[q], i), packets.unit_at(part, i), sums[i]);
    }
    return ok;
  }
};

template <Dtype kDtype, class M>
XD_FN void combine_in_packets(M& m, const CombineArgs& args) {
  CombineInPackets<M, kDtype>{m, args}.run();
}

}  // namespace crossdock::kernels
