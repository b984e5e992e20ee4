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
#include "types/packet.hpp"

namespace crossdock::kernels {

struct PacketShared {
  DispatchShared routing;           // of the block that keeps the books
  std::uint32_t going[kMaxRanks];   // bit t: token t of this rank goes there
  std::uint32_t coming[kMaxRanks];  // bit t: token t comes from there
  struct Sent {
    std::int32_t source, token;
  } rows[kMaxRanks * packet::kMostTokens];  // received ones, in order
};

template <class M>
struct DispatchInPackets {
  static constexpr int kUnits = packet::kUnitsPacked * M::kWidth;  // of a row that a warp packs at once

  M& m;
  PacketShared& shared;
  const DispatchArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;
  const std::uint64_t epoch = read_clock(m, call).epoch;
  const std::uint64_t poison = first_look(m, call);
  const int num_tokens = static_cast<int>(tokens_of(m, args));
  const int units = static_cast<int>(shape.row_bytes / 16);
  const int parts = ceil_div(units, kUnits) + 1;  // of a row; the last is what goes along with it
  bool failed = false;

  XD_FN void run() {
    mark(Phase::begin);
    if (m.any_in_block(told_failure(m, call, poison))) return;
    if (tells()) publish();
    send_rows();
    mark(Phase::wait_counts);
    if (!await_masks()) return;
    mark(Phase::move);
    take_rows();
    if (keeps_books()) keep_books();
    advance_clock(m, whole_block(m), call, epoch, false);
    mark(Phase::end);
  }

  XD_FN void mark(Phase phase) { kernels::mark(m, call, epoch, phase, false); }

  /// Two blocks move no row where there are more.
  XD_FN int movers() const { return m.num_blocks() > kIdleOfSmall ? m.num_blocks() - kIdleOfSmall : m.num_blocks(); }
  XD_FN bool tells() const { return m.block() == m.num_blocks() - 1; }
  XD_FN bool keeps_books() const { return m.block() == larger(0, m.num_blocks() - kIdleOfSmall); }

  /// Calls part(row or token, part of it) for this warp's share of `num` rows.
  template <class Part>
  XD_FN void share_parts(int num, Part&& part) {
    if (m.block() >= movers()) return;
    const std::uint32_t all = static_cast<std::uint32_t>(num) * parts, step = movers() * m.num_warps();
    for (std::uint32_t i = m.block() * m.num_warps() + m.warp(); i < all; i += step) {
      const std::uint32_t row = i / static_cast<std::uint32_t>(parts);
      part(static_cast<int>(row), static_cast<int>(i - row * parts));
    }
  }

  // ---- to the peers --------------------------------------------------------------------------------------------------

  XD_FN platform::Bytes16* slot(int peer, int source, int token) const {
    const std::int64_t at =
        (static_cast<std::int64_t>(epoch & 1) * shape.num_ranks + source) * shape.max_tokens + token;
    return call.at<platform::Bytes16>(peer, call.place.packets) + at * packet::per_slot(shape);
  }
  XD_FN std::uint64_t* masks(int peer) const {
    const int cells = shape.num_ranks * (shape.num_ranks + 1);
    return call.at<std::uint64_t>(peer, call.place.mask_words) + static_cast<int>(epoch & 1) * cells;
  }
  XD_FN platform::Bytes16 packet_of(std::uint32_t a, std::uint32_t b, std::uint32_t c) const {
    return {{a, b, c, static_cast<std::uint32_t>(sync::epoch_in_word(epoch))}};
  }

  /// Bit d: id j of the token names rank d; none where there is no such id.
  XD_FN std::uint32_t rank_named(int token, int j) const {
    if (j >= shape.top_k) return 0;
    const std::int64_t id = args.ids.raw(std::int64_t{token} * shape.top_k + j);
    return id >= 0 && id < shape.num_experts ? 1u << route::owner_of(static_cast<std::int32_t>(id), shape) : 0;
  }

  /// Tells all ranks which tokens go where, by one warp: a lane looks at whole tokens.
  XD_FN void publish() {
    mark(Phase::publish);
    if (m.warp() == 0) {
      for (int d = m.lane(); d < kMaxRanks; d += M::kWidth) shared.going[d] = 0;
      m.sync_warp();
      for (int first = 0; first < num_tokens; first += M::kWidth) {
        std::uint32_t named = 0;
        const int token = first + m.lane();
        for (int j = 0; token < num_tokens && j < shape.top_k; ++j) named |= rank_named(token, j);
        for (int d = 0; d < shape.num_ranks; ++d) {
          const std::uint64_t go = m.votes(named >> d & 1);
          if (m.lane() == 0) shared.going[d] |= static_cast<std::uint32_t>(go << first);
        }
      }
      m.sync_warp();
      tell_masks();
    }
  }
  XD_FN void tell_masks() {
    const int cells = shape.num_ranks + 1;
    for (int i = m.lane(); i < shape.num_ranks * cells; i += M::kWidth) {
      const int p = shape.by_cells(i), d = i - p * cells;
      const std::uint64_t told = d == shape.num_ranks ? layout::token_cell(num_tokens, call.plan_idx) : shared.going[d];
      // edge counts: signal
      m.store_begun(masks(call.peers.after(p)) + rank * cells + d, sync::count_word(epoch, told));
    }
  }

  XD_FN void send_rows() {
    share_parts(num_tokens, [&](int token, int part) {
      if (part == parts - 1)
        send_words(token);
      else
        send_part(token, part);
    });
  }

  /// Bit d: the token goes to rank d.
  XD_FN std::uint32_t ranks_of(int token) {
    std::uint32_t named = 0, all = 0;
    for (int j = m.lane(); j < shape.top_k; j += M::kWidth) named |= rank_named(token, j);
    for (int d = 0; d < shape.num_ranks; ++d) all |= (m.votes(named >> d & 1) ? 1u : 0u) << d;
    return all;
  }

  XD_FN void send_part(int token, int part) {
    const std::byte* row = args.rows + token * shape.row_bytes;
    platform::Bytes16 unit[packet::kUnitsPacked] = {};
    XD_UNROLL(3)
    for (int i = 0; i < packet::kUnitsPacked; ++i)
      if (const int u = part * kUnits + i * M::kWidth + m.lane(); u < units)
        unit[i] = m.load16_once(row + std::int64_t{u} * 16);
    const std::uint32_t to = ranks_of(token);
    const auto word = [&](int w) { return unit[w / 4].word[w % 4]; };
    for (int d = 0; d < shape.num_ranks; ++d) {
      if (!(to >> d & 1)) continue;
      platform::Bytes16* packets = slot(d, rank, token) + part * packet::kPacketsOfUnits * M::kWidth + m.lane();
      XD_UNROLL(4)
      for (int q = 0; q < packet::kPacketsOfUnits; ++q)
        // edge done: signal
        m.store16_whole(packets + q * M::kWidth, packet_of(word(3 * q), word(3 * q + 1), word(3 * q + 2)));
    }
  }

  /// Word i of what goes along with a row; `ordinal`: of its rank among those of the token.
  XD_FN std::uint32_t word_beside(int token, int ordinal, int i) const {
    const std::int64_t first = std::int64_t{token} * shape.top_k;
    if (i < shape.top_k) return static_cast<std::uint32_t>(args.ids.get(first + i, shape.num_experts));
    if (i < 2 * shape.top_k)
      return std::bit_cast<std::uint32_t>(args.weights ? args.weights[first + i - shape.top_k] : 1.0f);
    if (i == 2 * shape.top_k) return static_cast<std::uint32_t>(layout::landing_row(token, ordinal, shape));
    const int at = (i - 2 * shape.top_k - 1) * 4;
    if (at >= shape.scale_bytes) return 0;
    const std::byte* scales = args.scales + std::int64_t{token} * shape.scale_bytes + at;
    std::uint32_t word = 0;
    for (int b = 0; b < 4; ++b) word |= static_cast<std::uint32_t>(scales[b]) << (8 * b);
    return word;
  }

  XD_FN void send_words(int token) {
    std::uint32_t seen = 0,
                  ordinals = 0;  // ranks that the ids so far have named, and four bits a rank: which of them it is
    for (int j = 0; j < shape.top_k; ++j) {
      const std::uint32_t named = rank_named(token, j) & ~seen;
      if (named)
        ordinals |= static_cast<std::uint32_t>(__builtin_popcount(seen)) << (4 * __builtin_popcount(named - 1));
      seen |= named;
    }
    for (int d = 0; d < shape.num_ranks; ++d) {
      if (!(seen >> d & 1)) continue;
      const int ordinal = ordinals >> (4 * d) & 15;
      platform::Bytes16* packets = slot(d, rank, token) + shape.packets_of_row;
      for (int w = m.lane() * packet::kWords; w < packet::words_beside_row(shape); w += M::kWidth * packet::kWords)
        // edge done: signal
        m.store16_whole(packets + w / packet::kWords,
                        packet_of(word_beside(token, ordinal, w), word_beside(token, ordinal, w + 1),
                                  word_beside(token, ordinal, w + 2)));
    }
  }

  // ---- from the peers ------------------------------------------------------------------------------------------------

  /// Which tokens come from each rank, and so who sent each row.
  XD_FN bool await_masks() {
    const int cells = shape.num_ranks + 1;
    for (int s = m.thread(); s < shape.num_ranks && !failed; s += m.num_threads()) {
      std::uint64_t told = 0;
      failed = !sync::wait_count(m, call.watch, masks(rank) + s * cells + rank, epoch, s, &told);
      shared.coming[s] = static_cast<std::uint32_t>(told);
      if (!failed) mark_seen(m, call, epoch, Phase::wait_counts, false, s);
    }
    if (m.any_in_block(failed)) return false;
    for (int i = m.thread(); i < shape.num_ranks * packet::kMostTokens; i += m.num_threads()) {
      const int s = i / packet::kMostTokens, t = i % packet::kMostTokens;
      if (!(shared.coming[s] >> t & 1)) continue;
      int row = __builtin_popcount(shared.coming[s] & ((1u << t) - 1));
      for (int before = 0; before < s; ++before) row += __builtin_popcount(shared.coming[before]);
      shared.rows[row] = {s, t};
    }
    m.sync_block();
    return true;
  }

  /// Rows that come here and fit.
  XD_FN int num_rows() const {
    int rows = 0;
    for (int s = 0; s < shape.num_ranks; ++s) rows += __builtin_popcount(shared.coming[s]);
    return static_cast<int>(smaller<std::int64_t>(rows, shape.row_capacity));
  }

  XD_FN bool take(const platform::Bytes16* packet, int source, platform::Bytes16* out) {
    if (!failed) failed = !sync::wait_packet(m, call.watch, packet, epoch, source, out);
    return !failed;
  }

  XD_FN void take_rows() {
    share_parts(num_rows(), [&](int row, int part) {
      if (part == parts - 1)
        take_words(row);
      else
        take_part(row, part);
    });
  }

  XD_FN void take_part(int row, int part) {
    const auto [source, token] = shared.rows[row];
    const platform::Bytes16* packets =
        slot(rank, source, token) + part * packet::kPacketsOfUnits * M::kWidth + m.lane();
    platform::Bytes16 seen[packet::kPacketsOfUnits];
    XD_UNROLL(4)
    for (int q = 0; q < packet::kPacketsOfUnits; ++q)
      if (!take(packets + q * M::kWidth, source, &seen[q])) return;
    const auto word = [&](int w) { return seen[w / 3].word[w % 3]; };
    std::byte* to = call.mine<std::byte>(call.place.rows) + row * shape.row_bytes;
    XD_UNROLL(3)
    for (int i = 0; i < packet::kUnitsPacked; ++i)
      if (const int u = part * kUnits + i * M::kWidth + m.lane(); u < units)
        m.store16(to + std::int64_t{u} * 16, {{word(4 * i), word(4 * i + 1), word(4 * i + 2), word(4 * i + 3)}});
  }

  XD_FN void keep_word(int row, int i, std::uint32_t word) {
    const auto [source, token] = shared.rows[row];
    const std::int64_t first = std::int64_t{row} * shape.top_k;
    if (i < shape.top_k)
      call.mine<std::int32_t>(call.plan.ids)[first + i] = static_cast<std::int32_t>(word);
    else if (i < 2 * shape.top_k)
      call.mine<float>(call.plan.weights)[first + i - shape.top_k] = std::bit_cast<float>(word);
    else if (i == 2 * shape.top_k)
      call.mine<RowSource>(call.plan.sources)[row] = {source, token, static_cast<std::int32_t>(word), 0};
    else if (i < packet::words_beside_row(shape))
      call.mine<std::uint32_t>(call.place.scales)[row * (shape.scale_bytes / 4) + i - 2 * shape.top_k - 1] = word;
  }

  XD_FN void take_words(int row) {
    const auto [source, token] = shared.rows[row];
    const platform::Bytes16* packets = slot(rank, source, token) + shape.packets_of_row;
    for (int w = m.lane() * packet::kWords; w < packet::words_beside_row(shape); w += M::kWidth * packet::kWords) {
      platform::Bytes16 seen;
      if (!take(packets + w / packet::kWords, source, &seen)) return;
      XD_UNROLL(3)
      for (int i = 0; i < packet::kWords; ++i) keep_word(row, w + i, seen.word[i]);
    }
  }

  // ---- books, by one block -------------------------------------------------------------------------------------------

  /// Everything that other batches leave in their plan, by the same functions.
  XD_FN void keep_books() {
    mark(Phase::close_books);
    const std::int64_t filled = call.mine<memory::PlanFill>(call.plan.fill)->rows;
    Dispatch<M, true> routes{.m = m,
                             .shared = shared.routing,
                             .args = args,
                             .epoch = epoch,
                             .poison = 0,
                             .filled = filled,
                             .num_tokens = num_tokens,
                             .pieces = 1,
                             .items = {0, num_tokens}};
    if (!await_matrix()) return;
    routes.route_share();
    m.sync_block();
    for (int d = m.thread(); d < shape.num_ranks; d += m.num_threads())
      shared.routing.next_row[d] = routes.matrix().first_row(rank, d);
    routes.place_chunk(0, num_tokens);
    routes.keep_chunk(whole_block(m), 0, num_tokens);
    const Books<M> books = routes.books();
    books.clean_tail(whole_block(m), filled, 0, 1);
    books.keep_matrix(whole_block(m));
    if (m.thread() == 0) books.report_tokens(num_tokens, shared.routing.counts[kMaxRanks]);
    count_pairs();
  }

  /// The counts of all ranks for all ranks.
  XD_FN bool await_matrix() {
    const int cells = shape.num_ranks + 1;
    for (int i = m.thread(); i < shape.num_ranks * cells && !failed; i += m.num_threads()) {
      const int s = shape.by_cells(i);
      std::uint64_t told = 0;
      failed = !sync::wait_count(m, call.watch, masks(rank) + i, epoch, s, &told);
      const bool is_mask = i - s * cells < shape.num_ranks;
      shared.routing.matrix[i] = is_mask ? __builtin_popcountll(told) : told;
    }
    return !m.any_in_block(failed);
  }

  /// Pairs by local expert, of the rows that were kept.
  XD_FN void count_pairs() {
    std::uint32_t* pairs = shared.routing.pairs;
    const int rows = num_rows();
    for (int group = 0; group < shape.experts_per_rank; group += kExpertsAtOnce) {
      m.sync_block();
      for (int x = m.thread(); x < kExpertsAtOnce; x += m.num_threads()) pairs[x] = 0;
      m.sync_block();
      for (int i = m.thread(); i < rows * shape.top_k; i += m.num_threads())
        count_pair(pairs, static_cast<int>(shape.by_top_k(i)), i, rank * shape.experts_per_rank + group);
      m.sync_block();
      for (int x = m.thread(); x < smaller(kExpertsAtOnce, shape.experts_per_rank - group); x += m.num_threads())
        call.mine<std::uint32_t>(call.plan.expert_counts)[group + x] = pairs[x];
    }
  }
  XD_FN void count_pair(std::uint32_t* pairs, int row, int i, int first_expert) {
    const auto [source, token] = shared.rows[row];
    const platform::Bytes16* packets = slot(rank, source, token) + shape.packets_of_row;
    const int j = i - row * shape.top_k;
    const auto id_of = [&](int other) {
      platform::Bytes16 seen{};
      (void)take(packets + other / packet::kWords, source, &seen);
      const int w = other % packet::kWords;
      return static_cast<std::int32_t>(w == 0 ? seen.word[0] : w == 1 ? seen.word[1] : seen.word[2]);
    };
    const int x = id_of(j) - first_expert;
    const int most = smaller(kExpertsAtOnce, rank * shape.experts_per_rank + shape.experts_per_rank - first_expert);
    if (x >= 0 && x < most && route::first_of_its_expert(id_of, j)) m.add_relaxed(&pairs[x], 1);
  }
};

template <class M>
XD_FN void dispatch_in_packets(M& m, PacketShared& shared, const DispatchArgs& args) {
  DispatchInPackets<M>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
