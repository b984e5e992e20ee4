// SPDX-License-Identifier: Apache-2.0
// combine: sums a token's rows, which the ranks of its experts have computed, at its home rank, the rank that owns the
// token.
//
// Push: for every received row, a rank stores one wire row (the form of a row on the link, codec/wire_row.hpp) into a
// combine slot at the home rank, then signals. The home rank sums what has landed.
// Pull (rows in the library's buffer): no row moves before the signal. Then the home rank reads the rows of its peers.
// Fused: the caller's kernel has pushed the rows already.
// Edges (release/acquire pairs between ranks, docs/protocol.md):
//   enter    only for a push after another combine on this buffer set: the sender has read that one's combine slots.
//   ready    all rows of its sender are where their home ranks read them.
// No deadlock, in one launch (CombineStep::whole): every block waits for ready of all ranks, and a rank that pushes
// signals it after all its blocks have pushed. So all blocks must be resident together; src/op limits the grid to that.
// In two launches, `send` (`meet`, if nothing is pushed) ends with a wait for ready in one block, and `reduce` sums.
#pragma once

#include <type_traits>

#include "codec/wire_row.hpp"
#include "kernels/combine/combine_signals_device.hpp"
#include "kernels/combine/expert_sum_device.hpp"
#include "layout/slots.hpp"
#include "wire/fan_out_device.hpp"

namespace crossdock::kernels {

/// Pull: up to this number of blocks, loads of two units per lane do not fill the link. Measured on 2 x H200
/// (2026-11-23).
inline constexpr int kFewPullers = 32;

/// kByExpert: the caller's rows are expert rows; else they are received rows.
template <class M, Dtype kDtype, CombineQuant kQuant, bool kByExpert>
struct Combine {
  using Row = codec::WireRow<kDtype, kQuant>;
  using Bytes16 = platform::Bytes16;
  using Floats = platform::Floats;  // f32 values that the machine handles at once

  static constexpr bool kCanPull = kQuant == CombineQuant::none && !kByExpert;
  /// Whether there are variants of the sum that load more units per lane. Only for bf16 and f16, which models use,
  /// because each variant costs code size. Not for warps of 64: clang spills registers there.
  static constexpr bool kHoldsMany = M::kWidth <= 32 && !kByExpert && (kDtype == Dtype::bf16 || kDtype == Dtype::f16);

  M& m;
  const CombineArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;
  const Clock clock = read_clock(m, call);
  const std::uint64_t poison = load_poison(m, call);
  const std::uint64_t epoch = clock.epoch;
  const std::int32_t num_units = ceil_div(static_cast<std::int32_t>(shape.combine_row_bytes), 16 * Row::kRowPacks);
  const Source& source = args.source;  // a reference: with a copy, one instance spills scalar registers on AMD
  bool failed = false;                 // as this thread knows it

  /// Push: waits for permission and sends rows. All: signals ready, waits for ready of all ranks, then sums. If a
  /// thread finds a failure, its block skips the rest: a failed rank signals nothing but poison.
  XD_FN void run() {
    const bool pushes = source == Source::slots || args.combine_topk_weights;
    mark(Phase::begin);
    failed = record_poison(m, call, poison);
    if (pushes && moves_rows_out() && !push()) return;
    if (!pushes && args.step != CombineStep::reduce && m.block() == 0) signal_ready(false);
    const std::int64_t tokens = args.num_tokens >= 0 ? args.num_tokens : num_planned_tokens(call);
    const Range items = sums() ? share_of(tokens * args.reduce.count, m.block(), m.num_blocks()) : Range{0, 0};
    if (!reduce_when_ready(items) || !sums()) return;
    if (args.combine_topk_weights) reduce_weights(tokens);
    if (shape.num_ranks > 1 && (source != Source::slots || shape.fused))
      recheck_poison(m, call);  // the caller's kernels write what was read: pulled rows, or slots of a fused exchange
    advance_clock(m, whole_block(m), call, epoch, true);
    mark(Phase::end);
  }

  XD_FN bool moves_rows_out() const { return args.step == CombineStep::whole || args.step == CombineStep::send; }
  XD_FN bool sums() const { return args.step == CombineStep::whole || args.step == CombineStep::reduce; }

  /// Pushes rows and weights to their homes. True if this block goes on, to wait for ready: in step `send` only the one
  /// that finishes last does.
  XD_FN bool push() {
    if (m.block() < num_senders()) {
      if (clock.after_combine) mark(Phase::wait_enter);
      if (!may_push()) return false;
      mark(Phase::send);
      if (source == Source::slots) send_rows();
      if (args.combine_topk_weights) send_weights();
    }
    const bool last = arrive_last(m, &call.local<memory::BufferSetState>(call.buffer_set.state)->arrivals);
    if (last) signal_ready(true);
    return last || args.step == CombineStep::whole;
  }
  /// Blocks that push. All, but in step `send` behind another combine: they wait for enter, and too many must not.
  XD_FN int num_senders() const {
    return args.step == CombineStep::send && clock.after_combine ? min(m.num_blocks(), args.max_waiting_blocks)
                                                                 : m.num_blocks();
  }

  XD_FN void mark(Phase phase) { kernels::mark(m, call, epoch, phase, true); }
  XD_FN CombineSignals<M> signals() { return {m, args, epoch}; }

  /// Waits for permission to write combine slots. After a dispatch, its counts were the permission; after another
  /// combine, enter is. False: the group has failed.
  XD_FN bool may_push() { return clock.after_combine ? exchange_enter() : !m.sync_block_or(failed); }

  XD_FN bool exchange_enter() {
    if (m.block() == 0) signals().signal(call.buffer_set.enter_words, failed, false);            // edge enter: signal
    return signals().wait(call.buffer_set.enter_words, failed, Edge::enter, Phase::wait_enter);  // edge enter: wait
  }

  /// One block signals ready. Rows that this kernel has pushed need a release of their own; rows that earlier kernels
  /// wrote do not.
  XD_FN void signal_ready(bool pushed) {
    signals().signal(call.buffer_set.ready_words, failed, pushed);  // edge ready: signal
  }

  /// Push: stores the wire row of each received row into its combine slot at the home rank.
  XD_FN void send_rows() {
    const std::uint32_t splits = args.send.count;
    const Range items = share_of(call.local<Counts>(call.plan.counts)->num_rows * splits, m.block(), num_senders());
    for (std::uint32_t item = items.first + m.warp(); item < items.end; item += m.num_warps()) {
      const std::int64_t row = args.send.div_count(item);
      const RowSource home = call.local<RowSource>(call.plan.sources)[row];
      const wire::PeerPtr to =
          call.remote(home.rank, call.buffer_set.combine_slots) + home.combine_slot * shape.wire_row_bytes;
      const Units units = units_of_split(num_units, static_cast<int>(item - row * splits), args.send.units_per_split);
      if constexpr (!kByExpert && kQuant == CombineQuant::none) {
        wire::fan_out(m, args.rows + row * shape.combine_row_bytes, units.first, units.end, 1,
                      [to](int) { return to; });
      } else if constexpr (kQuant == CombineQuant::fp8_blockwise) {
        send_blocks(row, to, units);
      } else {
        send_values(row, to, units);
      }
    }
  }

  /// Rows that are summed here or cast directly: a lane computes its units in f32 and encodes them.
  XD_FN void send_values(std::int64_t row, wire::PeerPtr to, Units units) {
    constexpr int kUnits = Row::kUnitsAtOnce;
    Sent sent = sent_of(row);
    for (std::int32_t unit = units.first + m.lane(); unit < units.end; unit += kUnits * M::kWidth) {
      Floats values[kUnits][Row::kFloats] = {};
      sent.template add_to<kUnits>(values, unit, units.end);
      XD_UNROLL(8)
      for (int u = 0; u < kUnits; ++u)
        if (unit + u * M::kWidth < units.end)
          (to + std::int64_t{unit + u * M::kWidth} * 16).put16(m, Row::encode(values[u]));
    }
  }

  /// The caller's row, widened to f32. It has the interface of ExpertSum.
  struct PlainRow {
    M& m;
    const std::byte* row;
    std::int64_t bytes;
    template <int kUnits>
    XD_FN void add_to(Floats (*values)[Row::kFloats], std::int32_t unit, std::int32_t) {
      static_assert(kUnits == 1);
      Bytes16 packs[Row::kRowPacks];
      Row::load_packs(m, row, unit, bytes, packs);
      Row::widen_packs(packs, *values);
    }
  };
  /// What is sent for a received row: the caller's row, or in the layouts by expert the weighted sum of its expert
  /// rows.
  using Sent = std::conditional_t<kByExpert, ExpertSum<M, Row>, PlainRow>;
  XD_FN Sent sent_of(std::int64_t row) {
    if constexpr (kByExpert)
      return {m, call, args.rows, row};
    else
      return {m, args.rows + row * shape.combine_row_bytes, shape.combine_row_bytes};
  }

  /// fp8_blockwise: kLanes neighbouring lanes share a block of 128 elements. They find its exponent by a maximum over
  /// the lanes; the first of them stores it behind the codes of the row.
  XD_FN void send_blocks(std::int64_t row, wire::PeerPtr to, Units units) {
    constexpr int kLanes = M::kWidth < Row::kUnitsPerBlock ? M::kWidth : Row::kUnitsPerBlock;
    constexpr int kUnitsPerLane = Row::kUnitsPerBlock / kLanes, kBlocks = M::kWidth / kLanes;
    const std::int64_t first = units.first / Row::kUnitsPerBlock,
                       end = ceil_div<std::int64_t>(units.end, Row::kUnitsPerBlock);
    Sent sent = sent_of(row);
    for (std::int64_t base = first; base < end; base += kBlocks) {
      const std::int64_t block = base + m.lane() / kLanes;
      Floats values[kUnitsPerLane][Row::kFloats] = {};
      float amax = 0.0f;
      XD_UNROLL(8)
      for (int u = 0; u < kUnitsPerLane; ++u) {
        const std::int64_t unit = block * Row::kUnitsPerBlock + m.lane() % kLanes + u * kLanes;
        if (block < end && unit < num_units)
          amax = max(amax, load_magnitudes(sent, static_cast<std::int32_t>(unit), values + u));
      }
      const int e = codec::block_exponent(m.max_across(amax, kLanes));
      XD_UNROLL(8)
      for (int u = 0; u < kUnitsPerLane; ++u) {
        const std::int64_t unit = block * Row::kUnitsPerBlock + m.lane() % kLanes + u * kLanes;
        if (block < end && unit < num_units) (to + unit * 16).put16(m, encode_scaled(values[u], e));
      }
      if (block < end && m.lane() % kLanes == 0)
        (to + (round_up<std::int64_t>(shape.hidden, 16) + block)).put(static_cast<std::byte>(e + 127));
    }
  }

  /// Loads a unit into `values` and returns the largest finite magnitude in it.
  XD_FN float load_magnitudes(Sent& sent, std::int32_t unit, Floats (*values)[Row::kFloats]) {
    sent.template add_to<1>(values, unit, num_units);
    Floats amax{};
    XD_UNROLL(16)
    for (int i = 0; i < Row::kFloats; ++i) amax = codec::larger_finite(amax, (*values)[i]);
    return platform::largest_of(amax);
  }
  XD_FN static Bytes16 encode_scaled(Floats* values, int e) {
    const float scale = codec::any_power_of_two(-e);
    XD_UNROLL(16)
    for (int i = 0; i < Row::kFloats; ++i) values[i] = values[i] * scale;
    return Row::encode(values);
  }

  /// Index of this thread counted from the last one. Loops over weights use it, so that they begin with the last warp,
  /// which has no row when rows are few.
  XD_FN int from_last() const { return m.num_threads() - 1 - m.thread(); }

  /// Second result: sends the weights of each received row to the weights of its combine slot.
  XD_FN void send_weights() {
    const std::int64_t rows = call.local<Counts>(call.plan.counts)->num_rows;
    const float* weights = args.topk_weights ? args.topk_weights : call.local<float>(call.plan.topk_weights);
    const Range share = share_of(rows, m.block(), num_senders());
    for (std::int64_t i = share.first * shape.top_k + from_last(); i < share.end * shape.top_k; i += m.num_threads()) {
      const RowSource home = call.local<RowSource>(call.plan.sources)[i / shape.top_k];
      const std::int64_t at = std::int64_t{home.combine_slot} * shape.top_k + i % shape.top_k;
      (call.remote(home.rank, call.buffer_set.combine_slot_weights) + at * 4).put(weights[i]);
    }
  }

  /// Where a token's rows are read: one per distinct rank, in the order in which its ids first name them; null if that
  /// rank has dropped the row. Fused: one per id, see rows_of_ids().
  template <int kRanks>
  struct TokenSources {
    wire::PeerPtr row[kRanks];
  };
  template <int kRanks>
  XD_FN TokenSources<kRanks> sources_of(std::int64_t token) const {
    const memory::Route* routes = call.local<memory::Route>(call.plan.routes) + token * shape.ranks_per_token;
    TokenSources<kRanks> from{};
    XD_UNROLL(8)
    for (int o = 0; o < kRanks; ++o) {
      if (o >= shape.ranks_per_token || routes[o].row < 0) continue;
      from.row[o] = source == Source::slots ? call.remote(rank, call.buffer_set.combine_slots) +
                                                  layout::combine_slot(token, o, shape) * shape.wire_row_bytes
                                            : call.remote(routes[o].rank, call.buffer_set.combine_rows) +
                                                  routes[o].row * shape.combine_row_bytes;
    }
    return from;
  }

  /// Chooses how many units a lane loads at once: more if a token has rows at fewer ranks, so that the number of loads
  /// in flight stays the same. Not if many blocks pull: they fill the link anyway, and with larger loads some of them
  /// end much later than others.
  XD_FN bool reduce_when_ready(const Range& items) {
    if constexpr (kHoldsMany) {
      const bool many_pull = kCanPull && source == Source::peers && m.num_blocks() > kFewPullers;
      if (shape.ranks_per_token <= 2 && many_pull) return reduce_when_ready<2, Row::kUnitsAtOnce>(items);
      if (shape.ranks_per_token <= 2) return reduce_when_ready<2, 4 * Row::kUnitsAtOnce>(items);
      if (shape.ranks_per_token <= 4 && !many_pull) return reduce_when_ready<4, 2 * Row::kUnitsAtOnce>(items);
    }
    return reduce_when_ready<kMaxRanks, Row::kUnitsAtOnce>(items);
  }
  /// Waits for ready of all ranks. Step `reduce` does not: the launch before it has. False: the group has failed.
  XD_FN bool wait_ready() {
    if (args.step == CombineStep::reduce) return !m.sync_block_or(failed);
    mark(Phase::wait_ready);
    return signals().wait(call.buffer_set.ready_words, failed, Edge::ready, Phase::wait_ready);  // edge ready: wait
  }
  /// Waits for ready, then sums. `kRanks`: most ranks of a token. `kUnits`: units that a lane loads at once. Pull: a
  /// warp looks up the rows of its first token before the wait, which hides these loads. False: the group has failed.
  template <int kRanks, int kUnits>
  XD_FN bool reduce_when_ready(const Range& items) {
    const std::uint32_t splits = args.reduce.count;
    std::uint32_t item = items.first + m.warp();
    TokenSources<kRanks> from{};
    bool known = kCanPull && source == Source::peers && item < items.end;
    if (known) from = sources_of<kRanks>(args.reduce.div_count(item));
    if (!wait_ready()) return false;
    mark(Phase::reduce);
    for (; item < items.end; item += m.num_warps()) {
      const std::int64_t token = args.reduce.div_count(item);
      const Units units =
          units_of_split(num_units, static_cast<int>(item - token * splits), args.reduce.units_per_split);
      std::byte* out = args.out + token * shape.combine_row_bytes;
      if (source == Source::fused) {
        reduce_ids(token, units, out);
        continue;
      }
      if (!known) from = sources_of<kRanks>(token);
      known = false;
      reduce_ranks<kRanks, kUnits>(from, units, out);
    }
    return true;
  }

  /// Sums the rows of a token over its distinct ranks in f32, and rounds once.
  template <int kRanks, int kUnits>
  XD_FN void reduce_ranks(const TokenSources<kRanks>& from, Units units, std::byte* out) {
    for (std::int32_t unit = units.first + m.lane(); unit < units.end; unit += kUnits * M::kWidth) {
      Bytes16 raw[kUnits][kRanks] = {};
      load_units<kRanks, kUnits>(from, unit, units.end, raw);
      XD_UNROLL(8)
      for (int u = 0; u < kUnits; ++u) {
        if (unit + u * M::kWidth >= units.end) break;
        Floats sum[Row::kFloats];
        XD_UNROLL(32)
        for (int i = 0; i < Row::kFloats; ++i) sum[i] = Floats{};
        add_units<kRanks>(from, raw[u], unit + u * M::kWidth, sum);
        Row::store_row(m, out, unit + u * M::kWidth, shape.combine_row_bytes, sum);
      }
    }
  }

  /// Issues all loads of a lane's units before the first is used, because loads from a peer take long.
  template <int kRanks, int kUnits>
  XD_FN void load_units(const TokenSources<kRanks>& from, std::int32_t unit, std::int32_t end, Bytes16 (*raw)[kRanks]) {
    XD_UNROLL(8)
    for (int o = 0; o < kRanks; ++o) {
      XD_UNROLL(8)
      for (int u = 0; u < kUnits; ++u)
        if (from.row[o] && unit + u * M::kWidth < end)
          raw[u][o] = (from.row[o] + std::int64_t{unit + u * M::kWidth} * 16).get16(m);
    }
  }
  template <int kRanks>
  XD_FN void add_units(const TokenSources<kRanks>& from, const Bytes16* raw, std::int32_t unit, Floats* sum) {
    XD_UNROLL(8)
    for (int o = 0; o < kRanks; ++o)
      if (from.row[o]) add_unit(from.row[o], raw[o], unit, sum);
  }
  XD_FN void add_unit(wire::PeerPtr row, Bytes16 raw, std::int32_t unit, Floats* sum) {
    Floats values[Row::kFloats];
    Row::widen_wire(
        raw, unit, shape.hidden, [&](std::int64_t at) { return (row + at).template get<std::byte>(); }, values);
    Row::add(values, sum);
  }

  /// False for tokens past T of the plan. Fused: the caller may ask for more tokens than that; their sum is 0.
  XD_FN bool is_planned(std::int64_t token) const { return token < num_planned_tokens(call); }

  /// Fused: sums over the ids whose rows were kept, one combine slot per id, kMaxRanks of them at once.
  XD_FN void reduce_ids(std::int64_t token, Units units, std::byte* out) {
    constexpr int kUnits = Row::kUnitsAtOnce;
    const std::uint64_t kept = is_planned(token) ? call.local<std::uint64_t>(call.plan.kept_ids)[token] : 0;
    for (std::int32_t unit = units.first + m.lane(); unit < units.end; unit += kUnits * M::kWidth) {
      Floats sum[kUnits][Row::kFloats] = {};
      for (int j = 0; j < shape.top_k; j += kMaxRanks) {
        const TokenSources<kMaxRanks> from = rows_of_ids(token, kept, j);
        Bytes16 raw[kUnits][kMaxRanks] = {};
        load_units<kMaxRanks, kUnits>(from, unit, units.end, raw);
        XD_UNROLL(8)
        for (int u = 0; u < kUnits; ++u)
          if (unit + u * M::kWidth < units.end) add_units<kMaxRanks>(from, raw[u], unit + u * M::kWidth, sum[u]);
      }
      XD_UNROLL(8)
      for (int u = 0; u < kUnits; ++u)
        if (unit + u * M::kWidth < units.end)
          Row::store_row(m, out, unit + u * M::kWidth, shape.combine_row_bytes, sum[u]);
    }
  }
  /// Combine slots of ids [first_id, first_id + kMaxRanks); null for ids that were not kept.
  XD_FN TokenSources<kMaxRanks> rows_of_ids(std::int64_t token, std::uint64_t kept, int first_id) const {
    const wire::PeerPtr first = call.remote(rank, call.buffer_set.combine_slots) +
                                layout::fused_combine_slot(token, 0, shape) * shape.wire_row_bytes;
    TokenSources<kMaxRanks> rows{};
    XD_UNROLL(8)
    for (int i = 0; i < kMaxRanks; ++i) {
      const int id = first_id + i;
      if (id < shape.top_k && kept >> id & 1) rows.row[i] = first + id * shape.wire_row_bytes;
    }
    return rows;
  }

  /// Second result: for each id, sums the weights that the token's ranks have sent.
  XD_FN void reduce_weights(std::int64_t tokens) {
    const Range share = share_of(tokens, m.block(), m.num_blocks());
    for (std::int64_t i = share.first * shape.top_k + from_last(); i < share.end * shape.top_k; i += m.num_threads()) {
      const std::int64_t token = i / shape.top_k;
      const memory::Route* routes = call.local<memory::Route>(call.plan.routes) + token * shape.ranks_per_token;
      float sum = 0.0f;
      for (int o = 0; o < shape.ranks_per_token && is_planned(token); ++o)
        if (routes[o].row >= 0)
          sum = sum + call.local<float>(
                          call.buffer_set.combine_slot_weights)[layout::combine_slot(token, o, shape) * shape.top_k +
                                                                i % shape.top_k];
      args.out_topk_weights[i] = codec::canonical(sum);
    }
  }
};

template <Dtype kDtype, CombineQuant kQuant, bool kByExpert, class M>
XD_FN void combine(M& m, const CombineArgs& args) {
  Combine<M, kDtype, kQuant, kByExpert>{m, args}.run();
}

}  // namespace crossdock::kernels
