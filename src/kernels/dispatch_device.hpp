// SPDX-License-Identifier: Apache-2.0
// dispatch: every token to the ranks that own its experts, straight into its final row.
//
// Written by: this rank into the receive rows and metadata of all ranks, and into its own plan.
// Read by: the caller's expert step after the kernel, and combine.
// Edges: counts (before any row is written: where rows go, and that nobody still reads the rows of before),
//        done (the kernel ends only when the rows of all ranks have landed here).
// Every block waits for the counts of all ranks; only the block that finishes last waits for done. The last block by
// number publishes the counts before it waits, so blocks must be resident together: the launch checks that they fit.
// Order without atomics: a token's row is the sum of the counts of earlier ranks, of earlier tokens, and of earlier
// tokens in its chunk, whatever the number of blocks and the width of a warp. Blocks route their shares side by side and
// wait for the counts of those before them.
#pragma once

#include "kernels/dispatch_books_device.hpp"
#include "kernels/dispatch_shared.hpp"
#include "kernels/pairs_device.hpp"
#include "kernels/phase_device.hpp"
#include "layout/slots.hpp"
#include "wire/fan_out_device.hpp"

namespace crossdock::kernels {

inline constexpr int kRoutedSooner = 2 * kChunk;  // tokens that one block routes in less time than many take to meet

inline constexpr int kBlocksThatSuffice = 12;  // to fill the link: 4 x H200 do so with fewer (2026-11-22)

/// What a lane reads of its warp's only item while the counts are under way, besides the row.
struct HeldItem {
  platform::Bytes16 scales;
  std::int32_t id;
  float weight;
};

template <class M, bool kSmall>
struct Dispatch {
  M& m;
  DispatchShared& shared;
  const DispatchArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;
  const std::uint64_t epoch = read_clock(m, call).epoch;
  const std::uint64_t poison = first_look(m, call);
  const std::int64_t filled = call.mine<memory::PlanFill>(call.plan.fill)->rows;
  const std::int64_t num_tokens = count_tokens();
  const std::uint32_t pieces = args.pieces.count;
  const Range items = share_of_block();  // pieces of tokens
  const std::int64_t first_token = token_of(items.first);
  const std::int64_t end_token = token_of(items.end + pieces - 1);
  /// Small batches: every warp has one item at most, every lane one id of it.
  const bool holds = kSmall || (items.end - items.first <= m.num_warps() && shape.top_k <= M::kWidth);
  HeldItem held{};
  wire::Turn<M> turn{};  // the next to be stored
  bool failed = false;   // as this thread knows it

  XD_FN void run() {
    const bool publisher = m.block() == m.num_blocks() - 1;
    // Small launches: a block of its own, which none waits for.
    const bool keeps_pairs = kSmall ? m.block() == m.num_blocks() - 2 : publisher;
    mark(Phase::begin);
    if (!replay() && !(kSmall && keeps_pairs)) route_share();
    if (told_failure(m, call, poison)) failed = true;
    if (publisher) mark(Phase::publish);
    if (publisher) publish_counts();
    if (keeps_pairs && !replay()) tell_pairs();
    load_item(items.first + m.warp());
    if (holds) hold_item();
    mark(Phase::wait_counts);
    if (!await_counts()) return;
    mark(Phase::move);
    move_rows();
    if (keeps_pairs && !replay() && !pair_books().sum()) return;
    finish();
    mark(Phase::end);
  }

  XD_FN void mark(Phase phase) { kernels::mark(m, call, epoch, phase, false); }
  XD_FN void mark_seen(Phase phase, int peer) { kernels::mark_seen(m, call, epoch, phase, false, peer); }

  XD_FN bool replay() const { return !kSmall && args.replay; }

  XD_FN std::int64_t token_of(std::int64_t i) const { return args.pieces.by_count(static_cast<std::uint32_t>(i)); }

  /// A batch of one chunk: every block routes all of it, and needs to hear of no other.
  XD_FN bool routes_at_once() const { return kSmall || num_tokens <= kChunk; }
  /// Whether the chunk that was routed first is all that this block will ask for.
  XD_FN bool routes_once() const { return routes_at_once() || end_token - first_token <= kChunk; }
  /// Where token 0 of `chunk` lies in what was found.
  XD_FN int found_at(std::int64_t chunk) const { return routes_at_once() ? static_cast<int>(chunk) : 0; }

  XD_FN std::int64_t count_tokens() const { return replay() ? matrix_of_plan().tokens(rank) : tokens_of(m, args); }

  XD_FN Books<M> books() { return {m, call, matrix()}; }
  XD_FN PairBooks<M> pair_books() { return {m, call, shared.pairs, epoch}; }

  XD_FN layout::CountMatrix matrix_of_plan() const {
    return {call.mine<std::uint64_t>(call.plan.matrix), shape.num_ranks};
  }
  XD_FN layout::CountMatrix matrix() const { return {shared.matrix, shape.num_ranks}; }

  /// The last block counts and publishes; it moves no row where the others suffice: to take an item per warp each, or to fill
  /// the link.
  XD_FN Range share_of_block() const {
    const std::int64_t all = num_tokens * pieces;
    const int others = m.num_blocks() - 1;
    const bool suffice = others >= kBlocksThatSuffice || (others > 0 && all <= std::int64_t{others} * m.num_warps());
    const int movers = kSmall ? m.num_blocks() - kIdleOfSmall : suffice ? others : m.num_blocks();
    return m.block() < movers ? share_of(all, m.block(), movers) : Range{all, all};
  }

  /// Routes this block's tokens, and finds how many rows the tokens before its first send to every rank. A token belongs to
  /// the block that has its first piece.
  XD_FN void route_share() {
    for (int d = m.thread(); d < memory::kShareCounts; d += m.num_threads()) shared.counts[d] = shared.before[d] = 0;
    if constexpr (kSmall)
      route_chunk(0, static_cast<int>(num_tokens), num_tokens);
    else
      route_large_share();
  }
  XD_FN void route_large_share() {
    const bool alone = items.first == items.end && num_tokens <= kRoutedSooner;  // a publisher that moves nothing
    if (routes_at_once() || alone) return route_tokens(0, num_tokens, num_tokens);
    route_tokens(first_token, end_token, token_of(items.end));
    add_earlier_shares();
  }

  /// Finds tokens [first, end), chunk by chunk, and counts those before `own_end`.
  XD_FN void route_tokens(std::int64_t first, std::int64_t end, std::int64_t own_end) {
    for (std::int64_t chunk = first; chunk < end; chunk += kChunk)
      route_chunk(chunk, static_cast<int>(smaller<std::int64_t>(kChunk, end - chunk)), own_end - chunk);
  }

  /// Finds a chunk and counts its first `own` tokens.
  XD_FN void route_chunk(std::int64_t chunk, int count, std::int64_t own) {
    find_chunk(chunk, count, own);
    const std::uint64_t counted = Bits::below(own);
    for (int d = m.thread(); d < kMaxRanks; d += m.num_threads())
      shared.counts[d] += __builtin_popcountll(shared.named[d].all() & counted);
  }

  /// Blocks exchange what they have counted; a word carries its epoch, so nothing else needs an order.
  XD_FN void add_earlier_shares() {
    m.sync_block();
    std::uint64_t* words = call.mine<std::uint64_t>(call.place.share_counts);
    for (int d = m.thread(); d < memory::kShareCounts; d += m.num_threads())
      m.store_relaxed(words + m.block() * memory::kShareCounts + d, sync::count_word(epoch, shared.counts[d]));
    for (int i = m.thread(); i < m.block() * memory::kShareCounts && !failed; i += m.num_threads()) {
      std::uint64_t count = 0;
      failed = !sync::wait_count(m, call.watch, words + i, epoch, rank, &count);
      if (count) m.add_relaxed(&shared.before[i % memory::kShareCounts], static_cast<std::uint32_t>(count));
    }
    failed = m.any_in_block(failed);
  }

  /// Tells all ranks the counts.
  XD_FN void publish_counts() {
    m.sync_block();
    for (int i = m.thread(); i < shape.num_ranks * (shape.num_ranks + 1) && !failed; i += m.num_threads()) {
      const int p = shape.by_cells(i), cell = i - p * (shape.num_ranks + 1);
      std::uint64_t* words = call.at<std::uint64_t>(call.peers.after(p), call.place.counts_words);
      const int first = rank * (shape.num_ranks + 1);
      std::uint64_t* word = words + first + cell;
      m.store_begun(word, sync::count_word(epoch, count_for(cell)));  // edge counts: signal
    }
    if (!replay() && m.thread() == 0)
      books().report_tokens(num_tokens, shared.before[kMaxRanks] + shared.counts[kMaxRanks]);
  }

  /// Tells the owners of the experts their pairs.
  XD_FN void tell_pairs() {
    failed = m.any_in_block(failed);
    if (!failed) pair_books().send(args.ids, num_tokens);
  }

  /// Rows for rank d; for d = W T and the plan.
  XD_FN std::uint64_t count_for(int d) const {
    if (replay()) return matrix_of_plan().cells[rank * (shape.num_ranks + 1) + d];
    return d == shape.num_ranks ? layout::token_cell(num_tokens, call.plan_idx) : shared.before[d] + shared.counts[d];
  }

  XD_FN bool await_counts() {
    const int cells = shape.num_ranks * (shape.num_ranks + 1);
    const std::uint64_t* words = call.mine<std::uint64_t>(call.place.counts_words);
    bool ok = !failed;
    for (int i = m.thread(); i < cells && ok; i += m.num_threads()) {
      const int s = shape.by_cells(i);
      ok = sync::wait_count(m, call.watch, words + i, epoch, s, &shared.matrix[i]);
      if (ok && i == s * (shape.num_ranks + 1) + shape.num_ranks) mark_seen(Phase::wait_counts, s);  // its last word
    }
    return !m.any_in_block(!ok);
  }

  XD_FN void move_rows() {
    if (items.first >= items.end) return;
    if (!replay())
      for (int d = m.thread(); d < shape.num_ranks; d += m.num_threads())
        shared.next_row[d] = matrix().first_row(rank, d) + shared.before[d];
    if constexpr (kSmall) {
      place_chunk(first_token, static_cast<int>(end_token - first_token));
      const std::uint32_t item = static_cast<std::uint32_t>(items.first) + m.warp();
      if (item < items.end) move_item(item, static_cast<std::uint32_t>(first_token));
    } else {
      move_chunks();
    }
  }

  XD_FN void move_chunks() {
    std::int64_t item = items.first + m.warp();
    for (std::int64_t chunk = first_token; chunk < end_token; chunk += kChunk) {
      const int count = static_cast<int>(smaller<std::int64_t>(kChunk, end_token - chunk));
      if (replay()) {
        recall_chunk(chunk, count);
      } else {
        if (!routes_once()) find_chunk(chunk, count, 0);
        place_chunk(chunk, count);
      }
      const std::int64_t last = smaller(items.end, (chunk + count) * pieces);
      for (; item < last; item += m.num_warps())
        move_item(static_cast<std::uint32_t>(item), static_cast<std::uint32_t>(chunk));
      if (!replay() && chunk + count < end_token) keep_chunk(whole_block(m), chunk, count);
    }
  }

  XD_FN void recall_chunk(std::int64_t chunk, int count) {
    m.sync_block();
    const memory::Route* routes = call.mine<memory::Route>(call.plan.routes);
    for (int i = m.thread(); i < count * shape.ranks_per_token; i += m.num_threads())
      shared.routes[i / shape.ranks_per_token * kMaxRanks + i % shape.ranks_per_token] =
          routes[chunk * shape.ranks_per_token + i];
    m.sync_block();
  }

  /// The ranks that tokens [chunk, chunk + count) name, a thread per id; counts bad ids of the first `own`.
  XD_FN void find_chunk(std::int64_t chunk, int count, std::int64_t own) {
    m.sync_block();
    for (int i = m.thread(); i < count * kMaxRanks; i += m.num_threads()) shared.named_by[i] = {};
    for (int d = m.thread(); d < kMaxRanks; d += m.num_threads()) shared.named[d] = {};
    m.sync_block();
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads()) {
      const int token = shape.by_top_k(i), j = i - token * shape.top_k;
      const std::int64_t id = args.ids.raw(chunk * shape.top_k + i);
      if (id >= 0 && id < shape.num_experts)
        shared.named_by[token * kMaxRanks + route::owner_of(static_cast<std::int32_t>(id), shape)].set(m, j);
      else if (id != -1 && token < own)
        m.add_relaxed(&shared.counts[kMaxRanks], 1);
    }
    m.sync_block();
    for (int i = m.thread(); i < kMaxRanks * kChunk; i += m.num_threads()) {  // a warp: neighbouring tokens, one rank
      const int d = i / kChunk, token = i % kChunk;
      const std::uint64_t goes = m.votes(token < count && shared.named_by[token * kMaxRanks + d].all());
      if (m.lane() == 0 && goes) shared.named[d].set_from(m, token, goes);
    }
    m.sync_block();
  }

  /// Fills shared.routes for tokens [chunk, chunk + count), a thread per token and rank.
  XD_FN void place_chunk(std::int64_t chunk, int count) {
    m.sync_block();
    for (int i = m.thread(); i < count * kMaxRanks; i += m.num_threads()) {
      const int first = i / kMaxRanks * kMaxRanks;
      place(&shared.routes[first], found_at(chunk) + i / kMaxRanks, i % kMaxRanks);
    }
    m.sync_block();
    for (int d = m.thread(); d < shape.num_ranks; d += m.num_threads())
      shared.next_row[d] += __builtin_popcountll(shared.named[d].all());
  }

  /// Rank d among the routes of token `found`: behind those that a lower id names.
  XD_FN void place(memory::Route* routes, int found, int d) {
    const int first = found * kMaxRanks;
    const Bits* named_by = &shared.named_by[first];
    const std::uint64_t mine = named_by[d].all(), lower_ids = (mine & (~mine + 1)) - 1;
    int ordinal = 0, all = 0;
    XD_UNROLL(8)
    for (int e = 0; e < kMaxRanks; ++e) {
      ordinal += (named_by[e].all() & lower_ids) != 0;
      all += named_by[e].all() != 0;
    }
    if (d >= all) routes[d] = {-1, -1};
    if (!mine) return;
    const std::int64_t row = shared.next_row[d] + __builtin_popcountll(shared.named[d].all() & Bits::below(found));
    routes[ordinal] = {d, row < shape.row_capacity ? static_cast<std::int32_t>(row) : -1};
  }

  XD_FN std::int32_t id_of(std::int64_t token, int j) const {
    return args.ids.get(token * shape.top_k + j, shape.num_experts);
  }

  XD_FN bool owns(std::int64_t token) const { return token * pieces >= items.first && token * pieces < items.end; }

  /// Writes the plan of this block's own tokens.
  XD_FN void keep_chunk(Team team, std::int64_t chunk, int count) {
    memory::Route* kept_routes = call.mine<memory::Route>(call.plan.routes);
    for (int i = team.thread; i < count * kMaxRanks; i += team.num_threads) {
      const std::int64_t token = chunk + i / kMaxRanks;
      if (i % kMaxRanks < shape.ranks_per_token && owns(token))
        kept_routes[token * shape.ranks_per_token + i % kMaxRanks] = shared.routes[i];
    }
    std::uint64_t* kept_ids = call.mine<std::uint64_t>(call.plan.kept_ids);
    for (int i = team.thread; i < count; i += team.num_threads) {
      const int first = i * kMaxRanks;
      const memory::Route* routes = &shared.routes[first];
      std::uint64_t kept = 0;
      XD_UNROLL(8)
      for (int o = 0; o < kMaxRanks; ++o)
        if (routes[o].row >= 0) kept |= shared.named_by[(found_at(chunk) + i) * kMaxRanks + routes[o].rank].all();
      if (owns(chunk + i)) kept_ids[chunk + i] = kept;
    }
  }

  /// Where rows of `region` go to, by ordinal of the token's ranks.
  XD_FN auto rows_in(std::uint64_t region, std::int64_t row_bytes, const memory::Route* routes) const {
    return [=, this](int o) {
      const memory::Route to = routes[o];
      return to.row < 0 ? nullptr : call.at<std::byte>(to.rank, region) + to.row * row_bytes;
    };
  }

  XD_FN Units units_of(int piece) const {
    return units_of_piece(static_cast<std::int32_t>(shape.row_bytes / 16), piece, args.pieces.units_per_piece);
  }

  /// Begins to read an item, if there is such: all of a small launch's, else the first turn.
  XD_FN void load_item(std::int64_t item) {
    if (item >= items.end) return;
    const std::int64_t token = token_of(item);
    const std::byte* row = args.rows + token * shape.row_bytes;
    const Units units = units_of(static_cast<int>(item - token * pieces));
    const std::int32_t unit = units.first + m.lane();
    if constexpr (!kSmall)
      wire::load_turn(m, row, unit, units.end, turn);
    else if (unit < units.end)
      turn.bytes[0] = m.load16_once(row + std::int64_t{unit} * 16);
  }

  XD_FN void hold_item() {
    const std::uint32_t item = static_cast<std::uint32_t>(items.first) + m.warp();
    if (item >= items.end) return;
    const std::int64_t token = token_of(item);
    const int piece = static_cast<int>(item - token * pieces);
    if (replay() || piece != 0) return;
    const int j = m.lane() - static_cast<int>(shape.by_top_k(m.lane())) * shape.top_k;
    held.id = id_of(token, j);
    held.weight = weight_of(token, j);
    if (holds_scales() && m.lane() < shape.scale_bytes / 16)
      held.scales = m.load16_once(args.scales + token * shape.scale_bytes + m.lane() * 16);
  }

  XD_FN bool holds_scales() const {
    return kSmall || (holds && args.aligned_scales && shape.scale_bytes / 16 <= M::kWidth);
  }

  /// One piece of one token, to all its destinations, by one warp. The first piece takes the metadata along.
  XD_FN void move_item(std::uint32_t item, std::uint32_t chunk) {  // at most 2^24 tokens, 32 pieces each
    const std::int64_t token = token_of(item);
    const int piece = static_cast<int>(item - token * pieces), first = static_cast<int>(token - chunk) * kMaxRanks;
    const memory::Route* routes = &shared.routes[first];
    const Units units = units_of(piece);
    if constexpr (kSmall)
      move_held(token, routes, units, piece);
    else
      move_piece(item, token, routes, units, piece);
  }
  /// Its first turn has been read before, and that of the warp's next item is read behind its last.
  XD_FN void move_piece(std::uint32_t item, std::int64_t token, const memory::Route* routes, Units units, int piece) {
    const auto to = rows_in(call.place.rows, shape.row_bytes, routes);
    std::int32_t unit = units.first + m.lane();
    wire::store_turn(m, turn, unit, units.end, shape.ranks_per_token, to);
    for (unit += wire::kUnitsPerTurn<M>; unit < units.end; unit += wire::kUnitsPerTurn<M>) {
      wire::load_turn(m, args.rows + token * shape.row_bytes, unit, units.end, turn);
      wire::store_turn(m, turn, unit, units.end, shape.ranks_per_token, to);
    }
    load_item(std::int64_t{item} + m.num_warps());
    if (piece != 0) return;
    if (!replay()) send_metadata(token, routes);
    if (shape.scale_bytes != 0) send_scales(token, routes);
  }

  /// The small launch's move_item: a lane has at most one unit of the row, and one of the scales.
  XD_FN void move_held(std::int64_t token, const memory::Route* routes, Units units, int piece) {
    const std::int64_t unit = units.first + m.lane();
    const bool has_scales = piece == 0 && m.lane() < shape.scale_bytes / 16;
    for (int o = 0; o < shape.ranks_per_token; ++o) {
      const memory::Route to = routes[o];
      if (to.row < 0) continue;
      std::byte* rows = call.at<std::byte>(to.rank, call.place.rows) + to.row * shape.row_bytes;
      if (unit < units.end) m.store16_away(rows + unit * 16, turn.bytes[0]);
      std::byte* scales = call.at<std::byte>(to.rank, call.place.scales) + to.row * std::int64_t{shape.scale_bytes};
      if (has_scales) m.store16_away(scales + m.lane() * 16, held.scales);
    }
    if (piece == 0) send_metadata(token, routes);
  }

  XD_FN void send_scales(std::int64_t token, const memory::Route* routes) {
    const auto to = rows_in(call.place.scales, shape.scale_bytes, routes);
    if (!holds_scales() || replay())
      wire::fan_out_bytes(m, args.scales + token * shape.scale_bytes, shape.scale_bytes, args.aligned_scales,
                          shape.ranks_per_token, to);
    else if (m.lane() < shape.scale_bytes / 16)
      wire::store_to_all(m, held.scales, m.lane(), shape.ranks_per_token, to);
  }

  XD_FN float weight_of(std::int64_t token, int j) const {
    return args.weights ? args.weights[token * shape.top_k + j] : 1.0f;
  }

  /// Ids, weights and source of a token to all its ranks, a lane per rank and id.
  XD_FN void send_metadata(std::int64_t token, const memory::Route* routes) {
    for (int i = m.lane(); i < shape.ranks_per_token * shape.top_k; i += M::kWidth) {
      const int o = shape.by_top_k(i), j = i - o * shape.top_k;
      const memory::Route to = routes[o];
      if (to.row < 0) continue;
      std::byte* plan = call.at_plan<std::byte>(to.rank, matrix().plan(to.rank), 0);
      const bool is_held = holds && i == m.lane();
      const std::int64_t at = std::int64_t{to.row} * shape.top_k + j;
      reinterpret_cast<std::int32_t*>(plan + call.plan.ids)[at] = is_held ? held.id : id_of(token, j);
      reinterpret_cast<float*>(plan + call.plan.weights)[at] = is_held ? held.weight : weight_of(token, j);
      if (j == 0)
        reinterpret_cast<RowSource*>(plan + call.plan.sources)[to.row] = {
            rank, static_cast<std::int32_t>(token), static_cast<std::int32_t>(layout::landing_row(token, o, shape)), 0};
    }
  }

  /// The block that finishes last tells the peers and waits for them, by its first warp. Its others write meanwhile what only
  /// this rank reads: a release takes long, and so do instructions that run for the first time.
  XD_FN void finish() {
    mark(Phase::signal_done);
    const bool last = arrive_last(m, &call.mine<memory::PlaceState>(call.place.state)->arrivals);
    const bool waits = last && m.warp() == 0;
    if (waits) tell_done();
    if (!waits || m.num_warps() == 1) close_books(last);
    const bool ok = !waits || see_done();
    if (!last || m.any_in_block(!ok) || replay() || matrix().rows_needed(rank) <= shape.row_capacity) return;
    mark(Phase::recount);
    pair_books().recount();
  }

  XD_FN void close_books(bool last) {
    mark(Phase::close_books);
    const bool leaves_one = last && m.num_warps() > 1;  // the warp that waits
    const Team team = leaves_one ? Team{m.thread() - M::kWidth, m.num_threads() - M::kWidth} : whole_block(m);
    if (!replay()) {
      keep_last_chunk(team);
      books().clean_tail(team, filled, m.block(), m.num_blocks());
    }
    if (last && !replay()) books().keep_matrix(team);
    advance_clock(m, team, call, epoch, false);
  }

  XD_FN void tell_done() {
    for (int p = m.lane(); p < shape.num_ranks; p += M::kWidth) {
      std::uint64_t* word = call.at<std::uint64_t>(call.peers.after(p), call.place.done_words) + rank;
      m.store_release(word, epoch);  // edge done: signal
    }
  }

  /// Whether the rows of all ranks have landed; false: the group has failed.
  XD_FN bool see_done() {
    mark(Phase::wait_done);
    bool ok = true;
    for (int s = m.lane(); s < shape.num_ranks && ok; s += M::kWidth) {
      const std::uint64_t* word = call.mine<std::uint64_t>(call.place.done_words) + s;
      ok = sync::wait_epoch(m, call.watch, word, epoch, Edge::done, s);  // edge done: wait
      if (ok) mark_seen(Phase::wait_done, s);
    }
    return ok;
  }

  /// The plan of a block's last chunk, which is still in shared memory.
  XD_FN void keep_last_chunk(Team team) {
    if (items.first >= items.end) return;
    const std::int64_t chunk = first_token + (end_token - 1 - first_token) / kChunk * kChunk;
    keep_chunk(team, chunk, static_cast<int>(end_token - chunk));
  }
};

template <bool kSmall, class M>
XD_FN void dispatch(M& m, DispatchShared& shared, const DispatchArgs& args) {
  Dispatch<M, kSmall>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
