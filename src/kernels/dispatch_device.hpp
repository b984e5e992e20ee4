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
// tokens in its chunk, whatever the number of blocks and the width of a warp. Blocks count their shares side by side and
// wait for those of the blocks before them.
#pragma once

#include "kernels/phase_device.hpp"
#include "layout/slots.hpp"
#include "wire/fan_out_device.hpp"

namespace crossdock::kernels {

inline constexpr int kChunk = 64;  // tokens whose rows a block finds at once: one bit each in a word

inline constexpr int kExpertsAtOnce = 512;  // experts whose pairs are counted at once

struct DispatchShared {
  std::uint64_t matrix[kMaxRanks * (kMaxRanks + 1)];
  std::uint64_t named[kMaxRanks];      // bit i: token i of the chunk goes to this rank
  memory::Route routes[kChunk * kMaxRanks];
  route::TokenRoute tokens[kChunk];
  std::int64_t next_row[kMaxRanks];    // row of the chunk's first token at each rank
  std::uint32_t counts[kMaxRanks], before[memory::kShareCounts];
  std::uint32_t bad_ids;
  std::uint32_t pairs[kExpertsAtOnce];
};

/// What a lane reads of its warp's only item while the counts are under way.
struct HeldItem {
  platform::Bytes16 bytes;
  std::int32_t id;
  float weight;
};

template <class M>
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
  const std::int64_t first_token = static_cast<std::uint32_t>(items.first) / pieces;
  const std::int64_t end_token = static_cast<std::uint32_t>(items.end + pieces - 1) / pieces;
  /// Small batches: every warp has one item at most, every lane one unit of it and one id.
  const bool holds = items.end - items.first <= m.num_warps() && args.pieces.units_per_piece <= M::kWidth && shape.top_k <= M::kWidth;
  HeldItem held{};
  bool failed = false;  // as this thread knows it

  XD_FN void run() {
    const bool publisher = m.block() == m.num_blocks() - 1;
    mark(Phase::begin);
    if (!args.replay) routes_at_once() ? find_chunk(0, static_cast<int>(num_tokens)) : count_before();
    if (told_failure(m, call, poison)) failed = true;
    if (publisher) mark(Phase::publish);
    if (publisher) publish_counts();
    if (holds) hold_item();
    mark(Phase::wait_counts);
    if (!await_counts()) return;
    mark(Phase::move);
    if (publisher && !args.replay) ship_pairs();
    move_rows();
    finish();
    mark(Phase::end);
  }

  XD_FN void mark(Phase phase) { kernels::mark(m, call, epoch, phase, false); }

  /// A batch of one chunk is routed once, before the counts; larger ones are counted first and routed chunk by chunk.
  XD_FN bool routes_at_once() const { return num_tokens <= kChunk; }

  /// T of this call, in [0, M]. A T on the device that is out of range is clamped and reported.
  XD_FN std::int64_t count_tokens() const {
    if (args.replay) return matrix_of_plan().tokens(rank);
    const std::int64_t asked = args.num_tokens_on_device ? *args.num_tokens_on_device : args.num_tokens;
    const std::int64_t tokens = larger<std::int64_t>(0, smaller<std::int64_t>(asked, shape.max_tokens));
    if (tokens != asked && m.block() == 0 && m.thread() == 0) {
      sync::ReportRecord* report = call.watch.report;
      m.store_relaxed(&report->last_tokens, static_cast<std::uint64_t>(asked));
      m.store_release(&report->tokens_clamped, m.load_relaxed(&report->tokens_clamped) + 1);
    }
    return tokens;
  }

  XD_FN layout::CountMatrix matrix_of_plan() const {
    return {call.mine<std::uint64_t>(call.plan.matrix), shape.num_ranks};
  }
  XD_FN layout::CountMatrix matrix() const { return {shared.matrix, shape.num_ranks}; }

  /// Adds the routes of tokens [first, end) to shared.counts; call between barriers.
  XD_FN void count_routes(std::int64_t first, std::int64_t end) {
    std::uint32_t counts[kMaxRanks] = {}, bad_ids = 0;
    for (std::int64_t t = first + m.thread(); t < end; t += m.num_threads()) {
      const route::TokenRoute token = route::route_token(args.ids, t, shape);
      XD_UNROLL(8)
      for (int d = 0; d < kMaxRanks; ++d) counts[d] += token.mask >> d & 1;
      bad_ids += token.bad_ids;
    }
    XD_UNROLL(8)
    for (int d = 0; d < kMaxRanks; ++d)
      if (counts[d]) m.add_relaxed(&shared.counts[d], counts[d]);
    if (bad_ids) m.add_relaxed(&shared.bad_ids, bad_ids);
  }

  /// The last block counts and publishes; where the others suffice to take an item per warp each, it moves none.
  XD_FN Range share_of_block() const {
    const std::int64_t all = num_tokens * pieces;
    const int others = m.num_blocks() - 1;
    const int movers = others > 0 && all <= std::int64_t{others} * m.num_warps() ? others : m.num_blocks();
    return m.block() < movers ? share_of(all, m.block(), movers) : Range{all, all};
  }

  /// Few tokens: each block counts all before its own at once. Many: each counts its share and adds those of the blocks
  /// before it.
  XD_FN bool counts_alone() const { return num_tokens <= m.num_threads(); }

  /// Rows that the tokens before this block's first send to every rank, and, for the publisher, that all send.
  XD_FN void count_before() {
    for (int d = m.thread(); d < memory::kShareCounts; d += m.num_threads()) {
      shared.before[d] = 0;
      if (d < kMaxRanks) shared.counts[d] = 0;
    }
    if (m.thread() == 0) shared.bad_ids = 0;
    m.sync_block();
    if (counts_alone())
      count_routes(0, first_token);
    else
      count_routes(first_token, static_cast<std::uint32_t>(items.end) / pieces);
    m.sync_block();
    if (!counts_alone()) add_earlier_shares();
    for (int d = m.thread(); d < kMaxRanks; d += m.num_threads())
      shared.next_row[d] = counts_alone() ? shared.counts[d] : shared.before[d];
    m.sync_block();
  }

  /// Blocks exchange what they have counted; a word carries its epoch, so nothing else needs an order.
  XD_FN void add_earlier_shares() {
    std::uint64_t* words = call.mine<std::uint64_t>(call.place.share_counts);
    for (int d = m.thread(); d < memory::kShareCounts; d += m.num_threads())
      m.store_relaxed(words + m.block() * memory::kShareCounts + d, sync::count_word(epoch, d < kMaxRanks ? shared.counts[d] : shared.bad_ids));
    for (int i = m.thread(); i < m.block() * memory::kShareCounts && !failed; i += m.num_threads()) {
      std::uint64_t count = 0;
      failed = !sync::wait_count(m, call.watch, words + i, epoch, rank, &count);
      if (count) m.add_relaxed(&shared.before[i % memory::kShareCounts], static_cast<std::uint32_t>(count));
    }
    failed = m.any_in_block(failed);
    for (int d = m.thread(); d < kMaxRanks; d += m.num_threads()) shared.counts[d] += shared.before[d];
    if (m.thread() == 0) shared.bad_ids += shared.before[kMaxRanks];
  }

  XD_FN void publish_counts() {
    if (!args.replay && !routes_at_once() && counts_alone()) {
      count_routes(first_token, num_tokens);
      m.sync_block();
    }
    if (!args.replay && m.thread() == 0) report_tokens();
    const int cells = shape.num_ranks + 1;
    for (int i = m.thread(); i < shape.num_ranks * cells && !failed; i += m.num_threads()) {
      std::uint64_t* word = call.at<std::uint64_t>((rank + i / cells) % shape.num_ranks, call.place.counts_words);
      m.store_release(word + rank * cells + i % cells, sync::count_word(epoch, count_for(i % cells)));  // edge counts: signal
    }
    if (!args.replay) count_pairs(0);
  }

  /// Rows for rank d; for d = W T and the plan.
  XD_FN std::uint64_t count_for(int d) const {
    if (args.replay) return matrix_of_plan().cells[rank * (shape.num_ranks + 1) + d];
    if (d == shape.num_ranks) return layout::token_cell(num_tokens, call.plan_idx);
    return routes_at_once() ? __builtin_popcountll(shared.named[d]) : shared.counts[d];
  }

  /// Pairs of this rank's tokens and experts [group, group + kExpertsAtOnce).
  XD_FN void count_pairs(int group) {
    m.sync_block();
    for (int e = m.thread(); e < kExpertsAtOnce; e += m.num_threads()) shared.pairs[e] = 0;
    m.sync_block();
    for (std::int64_t i = m.thread(); i < num_tokens * shape.top_k; i += m.num_threads()) {
      const std::int64_t token = i / shape.top_k;
      const int j = static_cast<int>(i % shape.top_k), id = id_of(token, j), e = id - group;
      if (id >= 0 && e >= 0 && e < kExpertsAtOnce && route::first_of_its_expert([&](int other) { return id_of(token, other); }, j))
        m.add_relaxed(&shared.pairs[e], 1);
    }
    m.sync_block();
  }

  /// Pairs by expert go to the owners of the experts, once these have entered; drops are seen to by the owner.
  XD_FN void ship_pairs() {
    for (int group = 0; group < shape.num_experts; group += kExpertsAtOnce) {
      if (group > 0) count_pairs(group);  // the first were counted while the peers' counts were under way
      for (int e = m.thread(); e < smaller(kExpertsAtOnce, shape.num_experts - group); e += m.num_threads()) {
        const int owner = route::owner_of(group + e, shape), local = group + e - owner * shape.experts_per_rank;
        std::uint32_t* pairs = call.at_plan<std::uint32_t>(owner, matrix().plan(owner), call.plan.pairs_by_source);
        pairs[rank * shape.experts_per_rank + local] = shared.pairs[e];
      }
    }
  }

  XD_FN void report_tokens() {
    Counts* counts = call.mine<Counts>(call.plan.counts);
    counts->num_tokens = num_tokens;
    counts->bad_ids = shared.bad_ids;
    if (!shared.bad_ids) return;
    std::uint64_t* all = &call.watch.report->bad_ids;
    m.store_release(all, m.load_relaxed(all) + shared.bad_ids);
  }

  XD_FN bool await_counts() {
    const int cells = shape.num_ranks * (shape.num_ranks + 1);
    const std::uint64_t* words = call.mine<std::uint64_t>(call.place.counts_words);
    bool ok = !failed;
    for (int i = m.thread(); i < cells && ok; i += m.num_threads())
      ok = sync::wait_count(m, call.watch, words + i, epoch, i / (shape.num_ranks + 1), &shared.matrix[i]);
    return !m.any_in_block(!ok);
  }

  /// Rows that the call before had filled and this one leaves empty lose their metadata.
  XD_FN void clean_tail() {
    const std::int64_t first = smaller(matrix().rows_needed(rank), shape.row_capacity);
    const std::int64_t stride = std::int64_t{m.num_blocks()} * m.num_threads();
    for (std::int64_t r = first + std::int64_t{m.block()} * m.num_threads() + m.thread(); r < filled; r += stride) {
      call.mine<RowSource>(call.plan.sources)[r] = {-1, -1, -1, 0};
      for (int j = 0; j < shape.top_k; ++j) {
        call.mine<std::int32_t>(call.plan.ids)[r * shape.top_k + j] = -1;
        call.mine<float>(call.plan.weights)[r * shape.top_k + j] = 0.0f;
      }
    }
  }

  XD_FN void move_rows() {
    if (items.first >= items.end) return;
    if (!args.replay)
      for (int d = m.thread(); d < shape.num_ranks; d += m.num_threads())
        shared.next_row[d] = matrix().first_row(rank, d) + (routes_at_once() ? 0 : shared.next_row[d]);
    for (std::int64_t chunk = first_token; chunk < end_token; chunk += kChunk) {
      const int count = static_cast<int>(smaller<std::int64_t>(kChunk, end_token - chunk));
      if (args.replay) {
        recall_chunk(chunk, count);
      } else {
        if (!routes_at_once()) find_chunk(chunk, count);
        place_chunk(chunk, count);
      }
      const std::int64_t last = smaller(items.end, (chunk + count) * pieces);
      for (std::int64_t item = larger(items.first, chunk * pieces) + m.warp(); item < last; item += m.num_warps())
        move_item(static_cast<std::uint32_t>(item), static_cast<std::uint32_t>(chunk));
      if (!args.replay && chunk + count < end_token) keep_chunk(chunk, count);
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

  /// The ranks that tokens [chunk, chunk + count) name.
  XD_FN void find_chunk(std::int64_t chunk, int count) {
    m.sync_block();
    for (int d = m.thread(); d < kMaxRanks; d += m.num_threads()) shared.named[d] = 0;
    if (m.thread() == 0) shared.bad_ids = 0;
    m.sync_block();
    for (int i = m.thread(); i < count; i += m.num_threads()) {
      const route::TokenRoute token = route::route_token(args.ids, chunk + i, shape);
      shared.tokens[i] = token;
      for (int o = 0; o < token.count; ++o) m.or_relaxed(&shared.named[token.rank(o)], std::uint64_t{1} << i);
      if (token.bad_ids) m.add_relaxed(&shared.bad_ids, token.bad_ids);
    }
    m.sync_block();
  }

  /// Fills shared.routes for tokens [chunk, chunk + count); a batch that was routed at once has others before and behind.
  XD_FN void place_chunk(std::int64_t chunk, int count) {
    m.sync_block();
    const int before = routes_at_once() ? static_cast<int>(chunk) : 0;
    for (int i = m.thread(); i < count; i += m.num_threads()) place_token(i, before + i);
    m.sync_block();
    for (int d = m.thread(); d < shape.num_ranks; d += m.num_threads())
      shared.next_row[d] += __builtin_popcountll(shared.named[d]);
  }

  XD_FN void place_token(int i, int found) {
    const route::TokenRoute token = shared.tokens[found];
    for (int o = 0; o < shape.ranks_per_token; ++o) {
      memory::Route to{-1, -1};
      if (o < token.count) {
        to.rank = token.rank(o);
        const std::uint64_t earlier = shared.named[to.rank] & ((std::uint64_t{1} << found) - 1);
        const std::int64_t row = shared.next_row[to.rank] + __builtin_popcountll(earlier);
        if (row < shape.row_capacity) to.row = static_cast<std::int32_t>(row);
      }
      shared.routes[i * kMaxRanks + o] = to;
    }
  }

  XD_FN std::int32_t id_of(std::int64_t token, int j) const {
    return args.ids.get(token * shape.top_k + j, shape.num_experts);
  }

  /// Writes the plan of tokens whose first piece is this block's.
  XD_FN void keep_chunk(std::int64_t chunk, int count) {
    for (int i = m.thread(); i < count; i += m.num_threads()) {
      const std::int64_t first_item = (chunk + i) * pieces;
      if (first_item >= items.first && first_item < items.end) keep_token(chunk + i, i);
    }
  }

  /// Writes the plan of one token.
  XD_FN void keep_token(std::int64_t token, int i) {
    const memory::Route* routes = &shared.routes[i * kMaxRanks];
    std::uint32_t kept_ranks = 0;
    for (int o = 0; o < shape.ranks_per_token; ++o) {
      call.mine<memory::Route>(call.plan.routes)[token * shape.ranks_per_token + o] = routes[o];
      if (routes[o].row >= 0) kept_ranks |= 1u << routes[o].rank;
    }
    std::uint64_t kept_ids = 0;
    for (int j = 0; j < shape.top_k; ++j) {
      const std::int32_t id = id_of(token, j);
      if (id >= 0 && kept_ranks >> route::owner_of(id, shape) & 1) kept_ids |= std::uint64_t{1} << j;
    }
    call.mine<std::uint64_t>(call.plan.kept_ids)[token] = kept_ids;
  }

  /// Rows of `region` to which a token goes.
  XD_FN wire::Fan fan_of(const memory::Route* routes, std::uint64_t region, std::int64_t row_bytes) const {
    wire::Fan fan;
    XD_UNROLL(8)
    for (int o = 0; o < kMaxRanks; ++o)
      if (o < shape.ranks_per_token && routes[o].row >= 0)
        fan.to[o] = call.at<std::byte>(routes[o].rank, region) + routes[o].row * row_bytes;
    return fan;
  }

  XD_FN Units units_of(int piece) const {
    return units_of_piece(static_cast<std::int32_t>(shape.row_bytes / 16), piece, args.pieces.units_per_piece);
  }

  XD_FN void hold_item() {
    const std::uint32_t item = static_cast<std::uint32_t>(items.first) + m.warp();
    if (item >= items.end) return;
    const Units units = units_of(static_cast<int>(item % pieces));
    const std::int64_t token = item / pieces;
    if (units.first + m.lane() < units.end)
      held.bytes = m.load16_once(args.rows + token * shape.row_bytes + std::int64_t{units.first + m.lane()} * 16);
    if (args.replay || item % pieces != 0 || m.lane() >= shape.top_k) return;
    held.id = id_of(token, m.lane());
    held.weight = weight_of(token, m.lane());
  }

  /// One piece of one token, to all its destinations, by one warp. The first piece takes the metadata along.
  XD_FN void move_item(std::uint32_t item, std::uint32_t chunk) {  // at most 2^24 tokens, 32 pieces each
    const std::uint32_t in_chunk = item / pieces - chunk;
    const int piece = static_cast<int>(item % pieces);
    const std::int64_t token = chunk + in_chunk;
    const memory::Route* routes = &shared.routes[in_chunk * kMaxRanks];
    const Units units = units_of(piece);
    const wire::Fan fan = fan_of(routes, call.place.rows, shape.row_bytes);
    if (!holds)
      wire::fan_out(m, args.rows + token * shape.row_bytes, fan, units.first, units.end);
    else if (units.first + m.lane() < units.end)
      wire::store_to_all(m, held.bytes, fan, units.first + m.lane());
    if (piece != 0) return;
    if (!args.replay)
      for (int o = 0; o < shape.ranks_per_token; ++o)
        if (routes[o].row >= 0) send_metadata(token, o, routes[o]);
    if (shape.scale_bytes == 0) return;
    const bool aligned = shape.scale_bytes % 16 == 0 && reinterpret_cast<std::uintptr_t>(args.scales) % 16 == 0;
    wire::fan_out_bytes(m, args.scales + token * shape.scale_bytes, fan_of(routes, call.place.scales, shape.scale_bytes),
                        shape.scale_bytes, aligned);
  }

  XD_FN float weight_of(std::int64_t token, int j) const {
    return args.weights ? args.weights[token * shape.top_k + j] : 1.0f;
  }

  XD_FN void send_metadata(std::int64_t token, int ordinal, memory::Route to) {
    const std::int64_t first = std::int64_t{to.row} * shape.top_k;
    const int plan = matrix().plan(to.rank);
    for (int j = m.lane(); j < shape.top_k; j += M::kWidth) {
      call.at_plan<std::int32_t>(to.rank, plan, call.plan.ids)[first + j] = holds ? held.id : id_of(token, j);
      call.at_plan<float>(to.rank, plan, call.plan.weights)[first + j] = holds ? held.weight : weight_of(token, j);
    }
    if (m.lane() == 0)
      call.at_plan<RowSource>(to.rank, plan, call.plan.sources)[to.row] = {
          rank, static_cast<std::int32_t>(token), static_cast<std::int32_t>(layout::landing_row(token, ordinal, shape)), 0};
  }

  /// The block that finishes last tells the peers and waits for them. What only this rank reads is written meanwhile.
  XD_FN void finish() {
    mark(Phase::signal_done);
    const bool last = arrive_last(m, &call.mine<memory::PlaceState>(call.place.state)->arrivals);
    if (last) tell_done();
    if (!args.replay) {
      keep_last_chunk();
      clean_tail();
    }
    if (last && !args.replay) keep_matrix();
    if (last && !await_done()) return;
    if (last && !args.replay) sum_pairs();
    advance_clock(m, call, epoch, false);
  }

  XD_FN void tell_done() {
    for (int p = m.thread(); p < shape.num_ranks; p += m.num_threads()) {
      std::uint64_t* word = call.at<std::uint64_t>((rank + p) % shape.num_ranks, call.place.done_words) + rank;
      m.store_release(word, epoch);  // edge done: signal
    }
  }

  XD_FN bool await_done() {
    mark(Phase::wait_done);
    bool ok = true;
    for (int s = m.thread(); s < shape.num_ranks && ok; s += m.num_threads()) {
      const std::uint64_t* word = call.mine<std::uint64_t>(call.place.done_words) + s;
      ok = sync::wait_epoch(m, call.watch, word, epoch, Edge::done, s);  // edge done: wait
    }
    if (m.any_in_block(!ok)) return false;
    mark(Phase::close_books);
    return true;
  }

  /// The plan of a block's last chunk, which is still in shared memory.
  XD_FN void keep_last_chunk() {
    if (items.first >= items.end) return;
    const std::int64_t chunk = first_token + (end_token - 1 - first_token) / kChunk * kChunk;
    keep_chunk(chunk, static_cast<int>(end_token - chunk));
  }

  /// Kept pairs by local expert: what the senders counted, unless rows were dropped here.
  XD_FN void sum_pairs() {
    const int local_experts = shape.experts_per_rank;
    const std::uint32_t* pairs = call.mine<std::uint32_t>(call.plan.pairs_by_source);
    std::uint32_t* counts = call.mine<std::uint32_t>(call.plan.expert_counts);
    const std::int64_t rows = smaller(matrix().rows_needed(rank), shape.row_capacity);
    const bool dropped = matrix().rows_needed(rank) > shape.row_capacity;
    for (int x = m.thread(); x < local_experts; x += m.num_threads()) {
      std::uint32_t sum = 0;
      XD_UNROLL(8)
      for (int s = 0; s < kMaxRanks; ++s) sum += s < shape.num_ranks ? pairs[s * local_experts + x] : 0;
      counts[x] = dropped ? 0 : sum;
    }
    if (!dropped) return;
    m.sync_block();  // the senders' pairs include rows that were dropped here: count the rows that were kept
    const std::int32_t* ids = call.mine<std::int32_t>(call.plan.ids);
    for (std::int64_t i = m.thread(); i < rows * shape.top_k; i += m.num_threads()) {
      const std::int32_t* row = ids + i / shape.top_k * shape.top_k;
      const int j = static_cast<int>(i % shape.top_k), x = row[j] - rank * local_experts;
      if (row[j] >= 0 && x >= 0 && x < local_experts && route::first_of_its_expert([&](int other) { return row[other]; }, j))
        m.add_relaxed(&counts[x], 1);
    }
  }

  /// Everything that follows from the counts.
  XD_FN void keep_matrix() {
    const int cells = shape.num_ranks * (shape.num_ranks + 1);
    for (int i = m.thread(); i < cells; i += m.num_threads())
      call.mine<std::uint64_t>(call.plan.matrix)[i] = shared.matrix[i];
    Counts* counts = call.mine<Counts>(call.plan.counts);
    for (int s = m.thread(); s < shape.num_ranks; s += m.num_threads()) {
      counts->rows_per_source[s] = matrix().kept_rows(s, rank, shape.row_capacity);
      counts->dropped_per_source[s] = matrix().rows(s, rank) - counts->rows_per_source[s];
    }
    if (m.thread() != 0) return;
    counts->rows_needed = matrix().rows_needed(rank);
    counts->num_rows = smaller(counts->rows_needed, shape.row_capacity);
    call.mine<memory::PlanFill>(call.plan.fill)->rows = counts->num_rows;
    if (shape.overflow_is_error && counts->rows_needed > shape.row_capacity) {
      sync::ReportRecord* report = call.watch.report;
      m.store_relaxed(&report->rows_needed, counts->rows_needed);
      m.store_release(&report->rows_over, m.load_relaxed(&report->rows_over) + 1);
    }
  }
};

template <class M>
XD_FN void dispatch(M& m, DispatchShared& shared, const DispatchArgs& args) {
  Dispatch<M>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
