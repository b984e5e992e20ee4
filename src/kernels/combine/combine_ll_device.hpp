// SPDX-License-Identifier: Apache-2.0
// combine of small batches, without a signal between the rows and their sum. Every rank stores its rows as LL packets
// into slots at their home ranks, and each home rank sums a row as soon as its packets are there. No arrival counter
// stands between sending and summing, and nothing is pulled.
//
// Writes: packets into the slots of home ranks; the result of this rank's tokens.
// Readers: the caller after the kernel.
// Edges: ready. Its word says only that the sender has begun, and in which combine mode; each packet carries the tag of
// the epoch. enter is not needed: there are two sets of slots, see dispatch_ll_device.hpp, and combine slots are not
// used.
// No deadlock: every block sends all its packets before it waits. A block also waits for packets that other blocks of
// its rank send, so all must be resident together; src/op limits the grid to that.
#pragma once

#include "codec/wire_row.hpp"
#include "kernels/combine/combine_signals_device.hpp"
#include "kernels/common/ll_packets_device.hpp"

namespace crossdock::kernels {

template <class M, Dtype kDtype>
struct CombineLl {
  using Row = codec::WireRow<kDtype, CombineQuant::none>;
  static constexpr int kAtOnce = 2;  // ranks whose packets a lane loads at once; four spill on sm_90
  /// Ranks that a token went to and that kept its row; -1: none.
  struct Ranks {
    int of[kAtOnce];
  };

  M& m;
  const CombineArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const std::uint64_t epoch = read_clock(m, call).epoch;
  const std::uint64_t poison = load_poison(m, call);
  const LlPackets<M> packets{m, call, epoch};
  const std::uint32_t parts = LlPackets<M>::parts_of(shape.combine_row_bytes);
  /// The last block waits for ready of all ranks and compares the modes. So this rank ends the operation only after all
  /// ranks have begun it. The block moves no part of a row if there are others.
  const bool is_control_block = m.block() == m.num_blocks() - 1;
  const int movers = max(1, m.num_blocks() - 1);
  const std::uint32_t step = movers * m.num_warps();
  const std::uint32_t first = m.block() < movers ? m.block() * m.num_warps() + m.warp() : ~0u;
  const std::uint32_t row_items = items_of(call.local<Counts>(call.plan.counts)->num_rows);
  const std::uint32_t token_items = items_of(num_planned_tokens(call));
  Ranks ranks = ranks_of(first, 0);  // of this warp's first token; loaded before the first wait

  /// Sends all rows without a wait, then sums; the waits for packets are in add_some().
  XD_FN void run() {
    mark(Phase::begin);
    if (m.sync_block_or(record_poison(m, call, poison))) return;
    if (is_control_block) signals().signal(call.buffer_set.ready_words, false, false);  // edge ready: signal
    mark(Phase::send);
    send_rows();
    if (is_control_block) mark(Phase::wait_ready);
    if (is_control_block && !wait_ready()) return;
    mark(Phase::reduce);
    sum_rows();
    advance_clock(m, whole_block(m), call, epoch, true);
    mark(Phase::end);
  }

  XD_FN void mark(Phase phase) { kernels::mark(m, call, epoch, phase, true); }
  XD_FN CombineSignals<M> signals() { return {m, args, epoch}; }

  XD_FN bool wait_ready() {
    return signals().wait(call.buffer_set.ready_words, false, Edge::ready, Phase::wait_ready);  // edge ready: wait
  }

  XD_FN std::uint32_t items_of(std::int64_t rows) const { return static_cast<std::uint32_t>(rows) * parts; }

  /// Stores this warp's parts of the caller's rows, as packets, into the slots at their home ranks.
  XD_FN void send_rows() {
    for (std::uint32_t item = first; item < row_items; item += step) {
      const std::uint32_t row = item / parts, part = item % parts;
      const RowSource home = call.local<RowSource>(call.plan.sources)[row];
      const auto units = packets.load(args.rows + row * shape.combine_row_bytes, shape.combine_row_bytes, part);
      packets.store(packets.peer_slot(home.rank, call.peers.rank, home.token), part, units);  // edge ready: signal
    }
  }

  /// The o-th rank of an item's token, and the next ones.
  XD_FN Ranks ranks_of(std::uint32_t item, int o) const {
    Ranks ranks;
    const memory::Route* routes =
        call.local<memory::Route>(call.plan.routes) + item / parts * shape.ranks_per_token + o;
    XD_UNROLL(4)
    for (int q = 0; q < kAtOnce; ++q) {
      const bool is_one = o + q < shape.ranks_per_token && item < token_items;
      const memory::Route route = is_one ? routes[q] : memory::Route{-1, -1};
      ranks.of[q] = route.row >= 0 ? route.rank : -1;
    }
    return ranks;
  }

  XD_FN void sum_rows() {
    bool ok = true;
    for (std::uint32_t item = first; item < token_items && ok; item += step) {
      ok = sum(item);
      ranks = ranks_of(item + step, 0);
    }
  }

  /// Sums one part of a token's row over its distinct ranks, in the order in which the token's ids first name them.
  /// False: the group has failed.
  XD_FN bool sum(std::uint32_t item) {
    const int token = static_cast<int>(item / parts), part = static_cast<int>(item % parts);
    platform::Floats sums[ll_packet::kUnitsPacked][Row::kFloats];
    XD_UNROLL(3)
    for (int i = 0; i < ll_packet::kUnitsPacked; ++i) {
      XD_UNROLL(32)
      for (int f = 0; f < Row::kFloats; ++f) sums[i][f] = platform::Floats{};
    }
    bool ok = add_some(token, part, sums);
    for (int o = kAtOnce; o < shape.ranks_per_token && ok; o += kAtOnce) {
      ranks = ranks_of(item, o);
      ok = add_some(token, part, sums);
    }
    std::byte* out = args.out + token * shape.combine_row_bytes;
    XD_UNROLL(3)
    for (int i = 0; i < ll_packet::kUnitsPacked; ++i)
      if (const int u = packets.unit_at(part, i); ok && u < static_cast<int>(shape.combine_row_bytes / 16))
        Row::store_row(m, out, u, shape.combine_row_bytes, sums[i]);
    return ok;
  }

  /// Adds the rows of `ranks`. Loads the packets of all of them at once. False: the group has failed.
  template <class Sums>
  XD_FN bool add_some(int token, int part, Sums& sums) {
    const int* from = ranks.of;
    typename LlPackets<M>::Seen seen[kAtOnce] = {};
    const bool ok = packets.wait(Edge::ready, [&](std::uint64_t* other) {  // edge ready: wait
      XD_UNROLL(4)
      for (int q = 0; q < kAtOnce; ++q)
        if (from[q] >= 0) seen[q] = packets.look(packets.local_slot(from[q], token), part);
      int lacking = -1;
      XD_UNROLL(4)
      for (int q = 0; q < kAtOnce; ++q)
        if (from[q] >= 0 && !packets.is_here(seen[q])) {
          lacking = from[q];
          *other = sync::epoch_of_tag(seen[q].packet[0].word[ll_packet::kWords]);
        }
      return lacking;
    });
    XD_UNROLL(4)
    for (int q = 0; q < kAtOnce; ++q) {
      if (from[q] < 0) continue;
      XD_UNROLL(3)
      for (int i = 0; i < ll_packet::kUnitsPacked; ++i) {
        platform::Floats values[Row::kFloats];
        codec::Pack<kDtype>::widen(LlPackets<M>::unit_of(seen[q], i), values);
        Row::add(values, sums[i]);
      }
    }
    return ok;
  }
};

template <Dtype kDtype, class M>
XD_FN void combine_ll(M& m, const CombineArgs& args) {
  CombineLl<M, kDtype>{m, args}.run();
}

}  // namespace crossdock::kernels
