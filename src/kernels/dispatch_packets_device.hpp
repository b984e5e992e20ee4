// SPDX-License-Identifier: Apache-2.0
// dispatch of small batches in one hop: rows travel in packets, into slots by source and token that need no counts, while
// every rank tells which of its tokens go where. The receiver takes them into their final rows.
//
// Written by: this rank into the slots of all ranks, into its own receive rows and metadata, and into its own plan.
// Read by: the caller's expert step after the kernel, and combine, as after the dispatch of other batches.
// Edges: counts (masks of tokens in its place), done (by the epoch in every packet).
// Slots and masks are there twice. A rank that begins a dispatch has waited, in the operation before, for all ranks to begin
// that one, so they have ended all earlier ones: those of the other parity may be read still, those of this one are not.
#pragma once

#include "kernels/dispatch_device.hpp"
#include "kernels/packets_device.hpp"

namespace crossdock::kernels {

/// Three blocks move no rows where there are more, so that what they do takes no longer than the rows.
enum class Clerk { teller, router, counter };

struct PacketShared {
  DispatchShared routing;                       // its matrix in every block, the rest in the router
  std::uint32_t going[kMaxRanks];               // bit t: token t of this rank goes there
  std::uint32_t coming[kMostWarps][kMaxRanks];  // of each warp that moves rows, bit t: token t comes from there
};

template <class M>
struct DispatchInPackets {
  struct Sent {
    int source, token;
  };

  M& m;
  PacketShared& shared;
  const DispatchArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;
  const std::uint64_t epoch = read_clock(m, call).epoch;
  const std::uint64_t poison = first_look(m, call);
  const int num_tokens = static_cast<int>(tokens_of(m, args));
  const Packets<M> packets{m, call, epoch};
  const int parts = Packets<M>::parts_of(shape.row_bytes) + 1;  // of a row; the last is what goes along with it
  std::int64_t filled = 0;  // rows of the plan's last call, as the teller knows them
  bool failed = false;

  XD_FN void run() {
    mark(Phase::begin);
    if (m.any_in_block(told_failure(m, call, poison))) return;
    if (is(Clerk::teller)) tell_masks();
    if (is(Clerk::router)) router().route_share();
    if (m.block() < movers()) send_rows();
    mark(Phase::wait_counts);
    if (!(is_clerk() ? await_matrix() : await_masks())) return;
    mark(Phase::move);
    if (m.block() < movers()) take_rows();
    if (is(Clerk::counter)) count_pairs();
    if (is(Clerk::router)) keep_routes();
    if (is(Clerk::teller)) keep_counts();
    advance_clock(m, whole_block(m), call, epoch, false);
    mark(Phase::end);
  }

  XD_FN void mark(Phase phase) { kernels::mark(m, call, epoch, phase, false); }

  XD_FN bool is(Clerk clerk) const { return m.block() == larger(0, m.num_blocks() - 1 - static_cast<int>(clerk)); }
  XD_FN bool is_clerk() const { return m.block() >= m.num_blocks() - kClerks; }
  XD_FN int movers() const { return m.num_blocks() > kClerks ? m.num_blocks() - kClerks : m.num_blocks(); }

  // ---- to the peers --------------------------------------------------------------------------------------------------

  XD_FN std::uint64_t* masks(int peer) const {
    const int cells = shape.num_ranks * (shape.num_ranks + 1), first = static_cast<int>(epoch & 1) * cells;
    return call.at<std::uint64_t>(peer, call.place.mask_words) + first;
  }
  XD_FN bool is_id(std::int64_t id) const { return id >= 0 && id < shape.num_experts; }

  /// Bit d: id j of the token names rank d; none where there is no such id.
  XD_FN std::uint32_t rank_named(int token, int j) const {
    const std::int64_t id = args.ids.raw(std::int64_t{token} * shape.top_k + j);
    return is_id(id) ? 1u << route::owner_of(static_cast<std::int32_t>(id), shape) : 0;
  }

  /// Tells all ranks which tokens go where. Everybody waits for this: a thread looks at one id.
  XD_FN void tell_masks() {
    mark(Phase::publish);
    filled = call.mine<memory::PlanFill>(call.plan.fill)->rows;
    for (int d = m.thread(); d < kMaxRanks; d += m.num_threads()) shared.going[d] = 0;
    m.sync_block();
    for (int i = m.thread(); i < num_tokens * shape.top_k; i += m.num_threads()) {
      const std::int64_t id = args.ids.raw(i);
      const std::uint32_t token = shape.by_top_k(i);
      if (is_id(id)) m.or_relaxed(&shared.going[route::owner_of(static_cast<std::int32_t>(id), shape)], 1u << token);
    }
    m.sync_block();
    const int cells = shape.num_ranks + 1;
    for (int i = m.thread(); i < shape.num_ranks * cells; i += m.num_threads()) {
      const int p = shape.by_cells(i), d = i - p * cells;
      const std::uint64_t told = d == shape.num_ranks ? layout::token_cell(num_tokens, call.plan_idx) : shared.going[d];
      // edge counts: signal
      m.store_begun(masks(call.peers.after(p)) + rank * cells + d, sync::count_word(epoch, told));
    }
  }

  /// Calls part(row or token, part of it) for this warp's share of `num` rows.
  template <class Part>
  XD_FN void share_parts(int num, Part&& part) {
    const std::uint32_t all = static_cast<std::uint32_t>(num) * parts, step = movers() * m.num_warps();
    for (std::uint32_t i = m.block() * m.num_warps() + m.warp(); i < all; i += step) {
      const std::uint32_t row = i / static_cast<std::uint32_t>(parts);
      part(static_cast<int>(row), static_cast<int>(i - row * parts));
    }
  }

  XD_FN void send_rows() {
    share_parts(num_tokens,
                [&](int token, int part) { part == parts - 1 ? send_words(token) : send_part(token, part); });
  }

  XD_FN void send_part(int token, int part) {
    const auto units = packets.load(args.rows + token * shape.row_bytes, shape.row_bytes, part);
    std::uint32_t named = 0;
    for (int j = m.lane(); j < shape.top_k; j += M::kWidth) named |= rank_named(token, j);
    for (int d = 0; d < shape.num_ranks; ++d)
      if (m.votes(named >> d & 1)) packets.store(packets.slot(d, rank, token), part, units);  // edge done: signal
  }

  /// Whether id j is the first of the token to name its expert.
  XD_FN bool is_first_id(int token, int j) const {
    const auto id_of = [&](int i) { return args.ids.get(std::int64_t{token} * shape.top_k + i, shape.num_experts); };
    bool is_first = j < shape.top_k;
    const std::int32_t id = is_first ? id_of(j) : -1;
    for (int i = 0; i < shape.top_k; ++i) is_first = is_first && (i >= j || id_of(i) != id);
    return is_first;
  }

  /// Word i of what goes along with a row, to whatever rank; its receiver is told in particular which landing row that is.
  XD_FN std::uint32_t word_beside(int token, int i) const {
    const std::int64_t first = std::int64_t{token} * shape.top_k;
    if (i < shape.top_k) return packet::word_of_id(args.ids.get(first + i, shape.num_experts));
    if (i < 2 * shape.top_k)
      return std::bit_cast<std::uint32_t>(args.weights ? args.weights[first + i - shape.top_k] : 1.0f);
    const int at = (i - packet::landing_word(shape) - 1) * 4;
    return at < 0 || at >= shape.scale_bytes ? 0 : scale_word(token, at);
  }
  XD_FN platform::Bytes16 words_beside(int token, int i) const {
    return packets.packet_of(word_beside(token, i), word_beside(token, i + 1), word_beside(token, i + 2));
  }
  XD_FN std::uint32_t scale_word(int token, int at) const {
    const std::byte* scales = args.scales + std::int64_t{token} * shape.scale_bytes + at;
    if (args.aligned_scales) return *reinterpret_cast<const std::uint32_t*>(scales);
    std::uint32_t word = 0;
    for (int b = 0; b < 4; ++b) word |= static_cast<std::uint32_t>(scales[b]) << (8 * b);
    return word;
  }

  /// Reads everything once, most of it while ids are compared, then tells each rank.
  XD_FN void send_words(int token) {
    int w = m.lane() * packet::kWords;
    platform::Bytes16 words = words_beside(token, w);
    std::uint64_t named_by[kMaxRanks] = {}, firsts = 0;  // bits are ids
    for (int first_id = 0; first_id < shape.top_k; first_id += M::kWidth) {
      const int j = first_id + m.lane();
      const std::uint32_t named = j < shape.top_k ? rank_named(token, j) : 0;
      XD_UNROLL(8)
      for (int d = 0; d < kMaxRanks; ++d) named_by[d] |= m.votes(named >> d & 1) << first_id;
      firsts |= m.votes(is_first_id(token, j)) << first_id;
    }
    while (w < packet::words_beside_row(shape)) {
      XD_UNROLL(3)
      for (int i = 0; i < packet::kWords; ++i)
        if (w + i < shape.top_k && (firsts >> (w + i) & 1)) words.word[i] |= packet::kFirst;
      XD_UNROLL(8)
      for (int d = 0; d < kMaxRanks; ++d)
        if (named_by[d]) send_packet(d, token, w, words, ordinal_of(named_by, d));
      w += M::kWidth * packet::kWords;
      words = words_beside(token, w);
    }
  }
  /// How many ranks a lower id names.
  XD_FN static int ordinal_of(const std::uint64_t* named_by, int d) {
    const std::uint64_t lower_ids = (named_by[d] & (~named_by[d] + 1)) - 1;
    int ordinal = 0;
    XD_UNROLL(8)
    for (int e = 0; e < kMaxRanks; ++e) ordinal += (named_by[e] & lower_ids) != 0;
    return ordinal;
  }
  XD_FN void send_packet(int d, int token, int w, platform::Bytes16 words, int ordinal) {
    const auto row = static_cast<std::uint32_t>(layout::landing_row(token, ordinal, shape));
    XD_UNROLL(3)
    for (int i = 0; i < packet::kWords; ++i)
      if (w + i == packet::landing_word(shape)) words.word[i] = row;
    // edge done: signal
    m.store16_whole(packets.slot(d, rank, token) + shape.packets_of_row + w / packet::kWords, words);
  }

  // ---- from the peers ------------------------------------------------------------------------------------------------

  /// Which tokens come here. Every warp asks for itself: none has to wait for another that still sends.
  XD_FN bool await_masks() {
    for (int s = m.lane(); s < shape.num_ranks && !failed; s += M::kWidth) {
      std::uint64_t told = 0;
      failed = !sync::wait_count(m, call.watch, masks(rank) + s * (shape.num_ranks + 1) + rank, epoch, s, &told);
      coming()[s] = static_cast<std::uint32_t>(told);
      if (!failed && m.warp() == 0) mark_seen(m, call, epoch, Phase::wait_counts, false, s);
    }
    m.sync_warp();
    return m.votes(failed) == 0;
  }
  XD_FN std::uint32_t* coming() const { return shared.coming[is_clerk() ? 0 : m.warp()]; }

  /// The same for a block of clerks, and how many go where, of all ranks.
  XD_FN bool await_matrix() {
    const int cells = shape.num_ranks + 1;
    for (int i = m.thread(); i < shape.num_ranks * cells && !failed; i += m.num_threads()) {
      const int s = shape.by_cells(i), d = i - s * cells;
      std::uint64_t told = 0;
      failed = !sync::wait_count(m, call.watch, masks(rank) + i, epoch, s, &told);
      shared.routing.matrix[i] = d < shape.num_ranks ? __builtin_popcountll(told) : told;
      if (d == rank) coming()[s] = static_cast<std::uint32_t>(told);
    }
    return !m.any_in_block(failed);
  }

  /// Who sent a received row: they are in the order of sources, and of a source in that of its tokens.
  XD_FN Sent sent(int row) const {
    int source = 0, rows = __builtin_popcount(coming()[0]);
    for (; row >= rows; rows = __builtin_popcount(coming()[source])) row -= rows, ++source;
    std::uint32_t tokens = coming()[source];
    int token = 0;
    for (int half = packet::kMostTokens / 2; half > 0; half /= 2) {
      const int lower = __builtin_popcount(tokens & ((1u << half) - 1));
      if (row < lower) continue;
      row -= lower, tokens >>= half, token += half;
    }
    return {source, token};
  }

  /// Rows that come here and fit.
  XD_FN int num_rows() const {
    int rows = 0;
    for (int s = 0; s < shape.num_ranks; ++s) rows += __builtin_popcount(coming()[s]);
    return static_cast<int>(smaller<std::int64_t>(rows, shape.row_capacity));
  }

  XD_FN bool take(const platform::Bytes16* packet, int source, platform::Bytes16* seen) {
    if (!failed) failed = !packets.take(packet, Edge::done, source, seen);  // edge done: wait
    return !failed;
  }

  XD_FN void take_rows() {
    share_parts(num_rows(), [&](int row, int part) {
      part == parts - 1 ? take_words(row, sent(row)) : take_part(row, part, sent(row));
    });
  }

  XD_FN void take_part(int row, int part, Sent from) {
    const platform::Bytes16* slot = packets.slot(rank, from.source, from.token);
    typename Packets<M>::Seen seen;
    if (!failed) failed = !packets.take(slot, part, Edge::done, from.source, &seen);  // edge done: wait
    if (failed) return;
    std::byte* to = call.mine<std::byte>(call.place.rows) + row * shape.row_bytes;
    XD_UNROLL(3)
    for (int i = 0; i < packet::kUnitsPacked; ++i)
      if (const int u = packets.unit_at(part, i); u < shape.row_bytes / 16)
        m.store16(to + std::int64_t{u} * 16, Packets<M>::unit_of(seen, i));
  }

  XD_FN void keep_word(int row, Sent from, int i, std::uint32_t word) {
    const std::int64_t first = std::int64_t{row} * shape.top_k;
    if (i < shape.top_k)
      call.mine<std::int32_t>(call.plan.ids)[first + i] = packet::id_in(word);
    else if (i < 2 * shape.top_k)
      call.mine<float>(call.plan.weights)[first + i - shape.top_k] = std::bit_cast<float>(word);
    else if (i == packet::landing_word(shape))
      call.mine<RowSource>(call.plan.sources)[row] = {from.source, from.token, static_cast<std::int32_t>(word), 0};
    else if (i < packet::words_beside_row(shape))
      call.mine<std::uint32_t>(call.place.scales)[row * (shape.scale_bytes / 4) + i - packet::landing_word(shape) - 1] =
          word;
  }

  XD_FN void take_words(int row, Sent from) {
    const platform::Bytes16* words = packets.slot(rank, from.source, from.token) + shape.packets_of_row;
    for (int w = m.lane() * packet::kWords; w < packet::words_beside_row(shape); w += M::kWidth * packet::kWords) {
      platform::Bytes16 seen;
      if (!take(words + w / packet::kWords, from.source, &seen)) return;
      XD_UNROLL(3)
      for (int i = 0; i < packet::kWords; ++i) keep_word(row, from, w + i, seen.word[i]);
    }
  }

  // ---- books, by the clerks: what other batches leave in their plan ---------------------------------------------------

  XD_FN Dispatch<M, true> router() {
    return {.m = m,
            .shared = shared.routing,
            .args = args,
            .epoch = epoch,
            .poison = 0,
            .filled = 0,
            .num_tokens = num_tokens,
            .pieces = 1,
            .items = {0, num_tokens}};
  }
  XD_FN Books<M> books() { return {m, call, {shared.routing.matrix, shape.num_ranks}}; }

  XD_FN void keep_routes() {
    mark(Phase::close_books);
    Dispatch<M, true> routes = router();
    for (int d = m.thread(); d < shape.num_ranks; d += m.num_threads())
      shared.routing.next_row[d] = routes.matrix().first_row(rank, d);
    routes.place_chunk(0, num_tokens);
    routes.keep_chunk(whole_block(m), 0, num_tokens);
    if (m.thread() == 0) books().report_tokens(num_tokens, shared.routing.counts[kMaxRanks]);
  }

  XD_FN void keep_counts() {
    mark(Phase::close_books);
    books().clean_tail(whole_block(m), filled, 0, 1);
    books().keep_matrix(whole_block(m));
  }

  /// Pairs by local expert, of the rows that were kept.
  XD_FN void count_pairs() {
    mark(Phase::close_books);
    PairBooks<M> pairs{m, call, shared.routing.pairs, epoch};
    pairs.by_groups(num_rows() * shape.top_k, [&](int i) { return pair_of(i); });
  }
  /// Expert of the pair that id i of all rows makes, or -1.
  XD_FN int pair_of(int i) {
    const int row = shape.by_top_k(i), j = i - row * shape.top_k;
    const auto [source, token] = sent(row);
    const platform::Bytes16* packet = packets.slot(rank, source, token) + shape.packets_of_row + j / packet::kWords;
    platform::Bytes16 seen;
    if (!take(packet, source, &seen)) return -1;
    const int w = j % packet::kWords;
    const std::uint32_t word = w == 0 ? seen.word[0] : w == 1 ? seen.word[1] : seen.word[2];
    return packet::is_first(word) ? packet::id_in(word) : -1;
  }
};

template <class M>
XD_FN void dispatch_in_packets(M& m, PacketShared& shared, const DispatchArgs& args) {
  DispatchInPackets<M>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
