// SPDX-License-Identifier: Apache-2.0
// dispatch of small batches, with the latency of one message instead of two: rows do not wait for counts. They travel
// as LL packets into slots indexed by source rank and token. At the same time every rank publishes masks, which say
// which of its tokens go to which rank. From the masks the receiver computes the final rows and copies the packets
// there.
//
// Writes: packets into the slots of all ranks; this rank's own receive rows, metadata and plan.
// Readers: the caller's expert step after the kernel, and combine, as after every dispatch.
// Edges: counts (its words carry masks instead), done (the tag of the epoch in every packet).
// No deadlock: every block sends its masks and packets before it waits. It also waits for those of other blocks of its
// rank, so all blocks must be resident together; src/op limits the grid to that.
// There are two sets of slots and masks, for even and odd epochs. When a rank begins operation n, all ranks have begun
// operation n - 1, because it has waited for them there. So all have ended n - 2, and no rank reads the set of n - 2
// any more: n may overwrite it.
#pragma once

#include <bit>

#include "kernels/common/ll_packets_device.hpp"
#include "kernels/dispatch/dispatch_shared.hpp"
#include "kernels/dispatch/expert_counter_device.hpp"
#include "kernels/dispatch/plan_writer_device.hpp"
#include "kernels/dispatch/router_device.hpp"

namespace crossdock::kernels {

/// Tasks of the last three blocks. These blocks move no rows if there are others, so that the tasks end no later than
/// the rows.
enum class BlockRole { publisher, router, counter };

struct DispatchLlShared {
  DispatchShared routing;          // matrix: in control blocks; pairs: in the counter; the rest: in the router
  std::uint32_t going[kMaxRanks];  // [rank], bit t: token t of this rank goes to that rank
  std::uint32_t coming[kMaxWarps][kMaxRanks];  // [warp][rank], bit t: token t of that rank comes here
};

template <class M>
struct DispatchLl {
  /// Origin of a received row.
  struct Sent {
    int source, token;
  };

  M& m;
  DispatchLlShared& shared;
  const DispatchArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;
  const std::uint64_t epoch = read_clock(m, call).epoch;
  const std::uint64_t poison = load_poison(m, call);
  const int num_tokens = static_cast<int>(tokens_of(m, args));
  const LlPackets<M> packets{m, call, epoch};
  const int parts = LlPackets<M>::parts_of(shape.row_bytes) + 1;  // of a row; the last is its metadata
  std::int64_t filled = 0;  // received rows of the plan's last call; in the publisher
  bool failed = false;

  /// Sends rows and masks without a wait, then waits for the masks of all ranks, then for the packets of each row.
  XD_FN void run() {
    mark(Phase::begin);
    if (m.sync_block_or(record_poison(m, call, poison))) return;
    if (is(BlockRole::publisher)) publish_masks();
    if (is(BlockRole::router)) router().route_share();
    if (m.block() < movers()) send_rows();
    mark(Phase::wait_counts);
    if (!(is_control_block() ? wait_matrix() : wait_masks())) return;
    mark(Phase::move);
    if (m.block() < movers()) take_rows();
    if (is(BlockRole::counter)) count_pairs();
    if (is(BlockRole::router)) write_routes();
    if (is(BlockRole::publisher)) write_counts();
    advance_clock(m, whole_block(m), call, epoch, false);
    mark(Phase::end);
  }

  XD_FN void mark(Phase phase) { kernels::mark(m, call, epoch, phase, false); }

  XD_FN bool is(BlockRole role) const { return m.block() == max(0, m.num_blocks() - 1 - static_cast<int>(role)); }
  XD_FN bool is_control_block() const { return m.block() >= m.num_blocks() - kControlBlocks; }
  XD_FN int movers() const {
    return m.num_blocks() > kControlBlocks ? m.num_blocks() - kControlBlocks : m.num_blocks();
  }

  // ---- to the peers -------------------------------------------------------------------------------------------------

  /// Bit d: id j of the token names an expert of rank d. 0 for an id that names no expert.
  XD_FN std::uint32_t rank_named(int token, int j) const {
    const int d = route::rank_of(args.topk_ids.raw(std::int64_t{token} * shape.top_k + j), shape);
    return d < 0 ? 0 : 1u << d;
  }

  /// Publishes at all ranks which of this rank's tokens go where. All blocks of all ranks wait for this, so the ids are
  /// read in parallel, one per thread.
  XD_FN void publish_masks() {
    mark(Phase::publish);
    filled = call.local<memory::PlanFill>(call.plan.fill)->rows;
    for (int d = m.thread(); d < kMaxRanks; d += m.num_threads()) shared.going[d] = 0;
    m.sync_block();
    for (int i = m.thread(); i < num_tokens * shape.top_k; i += m.num_threads()) {
      const std::uint32_t token = shape.div_top_k(i);
      const int d = route::rank_of(args.topk_ids.raw(i), shape);
      if (d >= 0) m.or_relaxed(&shared.going[d], 1u << token);
    }
    m.sync_block();
    const int cells = shape.num_ranks + 1;
    for (int i = m.thread(); i < shape.num_ranks * cells; i += m.num_threads()) {
      const int p = shape.div_cells(i), d = i - p * cells;
      const std::uint64_t mask = d == shape.num_ranks ? layout::token_cell(num_tokens, call.plan_idx) : shared.going[d];
      const wire::PeerPtr masks = call.remote(call.peers.after(p), call.buffer_set.mask_words);
      const wire::PeerPtr word = masks + (layout::ll_masks(epoch, shape) + rank * cells + d) * 8;
      word.signal_prior_kernels(m, sync::count_word(epoch, mask));  // edge counts: signal
    }
  }

  /// Calls part(row, its part) for this warp's share of the parts of `num` rows. In send_rows() a row is a token.
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

  /// Loads a part of a token's row once and stores it, as packets, to every rank that the token's ids name.
  XD_FN void send_part(int token, int part) {
    const auto units = packets.load(args.tokens + token * shape.row_bytes, shape.row_bytes, part);
    std::uint32_t named = 0;
    for (int j = m.lane(); j < shape.top_k; j += M::kWidth) named |= rank_named(token, j);
    for (int d = 0; d < shape.num_ranks; ++d)
      if (m.ballot(named >> d & 1)) packets.store(packets.peer_slot(d, rank, token), part, units);  // edge done: signal
  }

  /// Whether id j is the first of the token to name its expert.
  XD_FN bool is_first_id(int token, int j) const {
    const auto id_of = [&](int i) { return args.topk_ids.get(std::int64_t{token} * shape.top_k + i, shape); };
    return j < shape.top_k && route::first_of_its_expert(id_of, j);
  }

  /// Word i of a row's metadata: ids, weights, combine slot, scales. The combine slot depends on the rank: it is 0
  /// here, and send_packet() fills it in.
  XD_FN std::uint32_t word_beside(int token, int i) const {
    const std::int64_t first = std::int64_t{token} * shape.top_k;
    if (i < shape.top_k) return ll_packet::word_of_id(args.topk_ids.get(first + i, shape));
    if (i < 2 * shape.top_k)
      return std::bit_cast<std::uint32_t>(args.topk_weights ? args.topk_weights[first + i - shape.top_k] : 1.0f);
    const int at = (i - ll_packet::slot_word(shape) - 1) * 4;
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

  /// Sends a token's metadata to each of its ranks, by one warp. The first words are loaded before the ids are
  /// compared, so that both overlap.
  XD_FN void send_words(int token) {
    int w = m.lane() * ll_packet::kWords;
    platform::Bytes16 words = words_beside(token, w);
    std::uint64_t named_by[kMaxRanks] = {}, firsts = 0;  // bit j: id j names the rank; it is the first of its expert
    for (int first_id = 0; first_id < shape.top_k; first_id += M::kWidth) {
      const int j = first_id + m.lane();
      const std::uint32_t named = j < shape.top_k ? rank_named(token, j) : 0;
      XD_UNROLL(8)
      for (int d = 0; d < kMaxRanks; ++d) named_by[d] |= m.ballot(named >> d & 1) << first_id;
      firsts |= m.ballot(is_first_id(token, j)) << first_id;
    }
    while (w < ll_packet::words_beside_row(shape)) {
      XD_UNROLL(3)
      for (int i = 0; i < ll_packet::kWords; ++i)
        if (w + i < shape.top_k && (firsts >> (w + i) & 1)) words.word[i] |= ll_packet::kFirst;
      XD_UNROLL(8)
      for (int d = 0; d < kMaxRanks; ++d)
        if (named_by[d]) send_packet(d, token, w, words, route::ordinal_of([&](int e) { return named_by[e]; }, d));
      w += M::kWidth * ll_packet::kWords;
      words = words_beside(token, w);
    }
  }
  XD_FN void send_packet(int d, int token, int w, platform::Bytes16 words, int ordinal) {
    const auto row = static_cast<std::uint32_t>(layout::combine_slot(token, ordinal, shape));
    XD_UNROLL(3)
    for (int i = 0; i < ll_packet::kWords; ++i)
      if (w + i == ll_packet::slot_word(shape)) words.word[i] = row;
    const int packet = shape.ll_packets_per_row + w / ll_packet::kWords;
    // edge done: signal
    (packets.peer_slot(d, rank, token) + packet * ll_packet::kBytes).put16_atomic(m, words);
  }

  // ---- from the peers -----------------------------------------------------------------------------------------------

  XD_FN const std::uint64_t* masks() const {
    return call.local<std::uint64_t>(call.buffer_set.mask_words) + layout::ll_masks(epoch, shape);
  }

  /// Waits for the masks of tokens that come here. Each warp has its own copy, so that no warp waits for another that
  /// still sends. False: the group has failed.
  XD_FN bool wait_masks() {
    for (int s = m.lane(); s < shape.num_ranks && !failed; s += M::kWidth) {
      std::uint64_t mask = 0;
      failed = !sync::wait_count(m, call.faults, masks() + s * (shape.num_ranks + 1) + rank, epoch, s, &mask);
      coming()[s] = static_cast<std::uint32_t>(mask);
      if (!failed && m.warp() == 0) mark_seen(m, call, epoch, Phase::wait_counts, false, s);
    }
    m.sync_warp();
    return m.ballot(failed) == 0;
  }
  XD_FN std::uint32_t* coming() const { return shared.coming[is_control_block() ? 0 : m.warp()]; }

  /// Control blocks wait for the masks of all ranks for all ranks, and count their bits into the matrix. False: the
  /// group has failed.
  XD_FN bool wait_matrix() {
    const int cells = shape.num_ranks + 1;
    for (int i = m.thread(); i < shape.num_ranks * cells && !failed; i += m.num_threads()) {
      const int s = shape.div_cells(i), d = i - s * cells;
      std::uint64_t mask = 0;
      failed = !sync::wait_count(m, call.faults, masks() + i, epoch, s, &mask);
      shared.routing.matrix[i] = d < shape.num_ranks ? __builtin_popcountll(mask) : mask;
      if (d == rank) coming()[s] = static_cast<std::uint32_t>(mask);
    }
    return !m.sync_block_or(failed);
  }

  /// Source rank and token of received row `row`. Rows are in the order (source rank, token), so it is the row-th bit
  /// that is set in coming(). A binary search by popcount finds it in the mask of its source.
  XD_FN Sent sent(int row) const {
    int source = 0, rows = __builtin_popcount(coming()[0]);
    for (; row >= rows; rows = __builtin_popcount(coming()[source])) row -= rows, ++source;
    std::uint32_t tokens = coming()[source];
    int token = 0;
    for (int half = ll_packet::kMaxTokens / 2; half > 0; half /= 2) {
      const int lower = __builtin_popcount(tokens & ((1u << half) - 1));
      if (row < lower) continue;
      row -= lower, tokens >>= half, token += half;
    }
    return {source, token};
  }

  /// Received rows, without those past the capacity.
  XD_FN int num_rows() const {
    int rows = 0;
    for (int s = 0; s < shape.num_ranks; ++s) rows += __builtin_popcount(coming()[s]);
    return static_cast<int>(min<std::int64_t>(rows, shape.row_capacity));
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
    const platform::Bytes16* slot = packets.local_slot(from.source, from.token);
    typename LlPackets<M>::Seen seen;
    if (!failed) failed = !packets.take(slot, part, Edge::done, from.source, &seen);  // edge done: wait
    if (failed) return;
    std::byte* to = call.local<std::byte>(call.buffer_set.rows) + row * shape.row_bytes;
    XD_UNROLL(3)
    for (int i = 0; i < ll_packet::kUnitsPacked; ++i)
      if (const int u = packets.unit_at(part, i); u < shape.row_bytes / 16)
        m.store16(to + std::int64_t{u} * 16, LlPackets<M>::unit_of(seen, i));
  }

  /// Stores word i of a row's metadata to its place in the plan or the scales; the inverse of word_beside().
  XD_FN void write_word(int row, Sent from, int i, std::uint32_t word) {
    const std::int64_t first = std::int64_t{row} * shape.top_k;
    if (i < shape.top_k)
      call.local<std::int32_t>(call.plan.topk_ids)[first + i] = ll_packet::id_in(word);
    else if (i < 2 * shape.top_k)
      call.local<float>(call.plan.topk_weights)[first + i - shape.top_k] = std::bit_cast<float>(word);
    else if (i == ll_packet::slot_word(shape))
      call.local<RowSource>(call.plan.sources)[row] = {from.source, from.token, static_cast<std::int32_t>(word), 0};
    else if (i < ll_packet::words_beside_row(shape))
      call.local<std::uint32_t>(
          call.buffer_set.scales)[row * (shape.scale_bytes / 4) + i - ll_packet::slot_word(shape) - 1] = word;
  }

  XD_FN void take_words(int row, Sent from) {
    const platform::Bytes16* words = packets.local_slot(from.source, from.token) + shape.ll_packets_per_row;
    for (int w = m.lane() * ll_packet::kWords; w < ll_packet::words_beside_row(shape);
         w += M::kWidth * ll_packet::kWords) {
      platform::Bytes16 seen;
      if (!take(words + w / ll_packet::kWords, from.source, &seen)) return;
      XD_UNROLL(3)
      for (int i = 0; i < ll_packet::kWords; ++i) write_word(row, from, w + i, seen.word[i]);
    }
  }

  // ---- the plan, by the control blocks: the same as after every dispatch --------------------------------------------

  XD_FN Router<M, true> router() { return {m, shared.routing, args, epoch, num_tokens, {0, num_tokens, num_tokens}}; }
  XD_FN layout::CountMatrix matrix() const { return {shared.routing.matrix, shape.num_ranks}; }
  XD_FN PlanWriter<M> plan_writer() { return {m, call, matrix()}; }

  XD_FN void write_routes() {
    mark(Phase::write_plan);
    router().begin_rows(matrix());
    router().assign_rows(0, num_tokens);
    router().write_chunk(whole_block(m), 0, num_tokens);
    if (m.thread() == 0) plan_writer().report_tokens(num_tokens, shared.routing.counts[kMaxRanks]);
  }

  XD_FN void write_counts() {
    mark(Phase::write_plan);
    plan_writer().clean_tail(whole_block(m), filled, 0, 1);
    plan_writer().write_matrix(whole_block(m));
  }

  /// Counts (token, expert) pairs by local expert, of the rows that were kept.
  XD_FN void count_pairs() {
    mark(Phase::write_plan);
    ExpertCounter<M> pairs{m, call, shared.routing.pairs, epoch};
    pairs.by_groups(num_rows() * shape.top_k, [&](int i) { return pair_of(i); });
  }
  /// Expert that id i of the received rows names; -1 if it names none, or one that an earlier id of the row names. It
  /// is read from the packets, because other blocks are still writing the plan.
  XD_FN int pair_of(int i) {
    const int row = shape.div_top_k(i), j = i - row * shape.top_k;
    const auto [source, token] = sent(row);
    const platform::Bytes16* packet =
        packets.local_slot(source, token) + shape.ll_packets_per_row + j / ll_packet::kWords;
    platform::Bytes16 seen;
    if (!take(packet, source, &seen)) return -1;
    const int w = j % ll_packet::kWords;
    const std::uint32_t word = w == 0 ? seen.word[0] : w == 1 ? seen.word[1] : seen.word[2];
    return ll_packet::is_first(word) ? ll_packet::id_in(word) : -1;
  }
};

template <class M>
XD_FN void dispatch_ll(M& m, DispatchLlShared& shared, const DispatchArgs& args) {
  DispatchLl<M>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
