// SPDX-License-Identifier: Apache-2.0
// Routing: to which ranks the tokens of a block go, how many rows each rank gets, and the index of each row at its
// rank.
//
// The index of a token's row at a rank is a sum of counts of rows for that rank: those of lower source ranks, those of
// this rank's earlier blocks and chunks, and those of earlier tokens in the same chunk. So it does not depend on
// timing, on the number of blocks or on the width of a warp.
#pragma once

#include "kernels/common/phase_device.hpp"
#include "kernels/dispatch/dispatch_shared.hpp"
#include "layout/slots.hpp"

namespace crossdock::kernels {

/// Tokens of a block. The block moves splits of tokens [first, end). It counts tokens [first, own_end) and writes their
/// plan. A token whose splits are moved by several blocks is counted by the last of them.
struct TokenShare {
  std::int64_t first, own_end, end;
};

template <class M, bool kLatency>
struct Router {
  /// Up to this number of tokens, a block that moves no rows routes and counts all of them by itself: that is faster
  /// than waiting for the counts of other blocks.
  static constexpr int kCountedAlone = 2 * kChunk;

  M& m;
  DispatchShared& shared;
  const DispatchArgs& args;
  const std::uint64_t epoch;
  const std::int64_t num_tokens;  // T
  const TokenShare share;
  const Call& call = args.call;
  const Shape& shape = call.shape;

  /// A batch of one chunk: every block routes all of it, and no block exchanges counts.
  XD_FN bool routes_at_once() const { return kLatency || num_tokens <= kChunk; }
  /// Whether the chunk in shared memory is the only one that this block needs.
  XD_FN bool routes_once() const { return routes_at_once() || share.end - share.first <= kChunk; }

  /// Routes this block's tokens and counts, for every rank, their rows (shared.counts) and those of earlier blocks
  /// (shared.before). A batch of one chunk is routed whole by every block: then all rows are in shared.counts. False:
  /// the group has failed.
  XD_FN bool route_share() {
    for (int d = m.thread(); d < memory::kShareCounts; d += m.num_threads()) shared.counts[d] = shared.before[d] = 0;
    if constexpr (kLatency) {
      route_chunk(0, static_cast<int>(num_tokens), num_tokens);
      return true;
    } else {
      return route_large_share();
    }
  }

  /// Fills shared.named_by and shared.named for tokens [chunk, chunk + count), a thread per id. Counts bad ids (neither
  /// an expert nor -1) of the first `own` tokens.
  XD_FN void find_chunk(std::int64_t chunk, int count, std::int64_t own) {
    m.sync_block();
    for (int i = m.thread(); i < count * kMaxRanks; i += m.num_threads()) shared.named_by[i] = {};
    for (int d = m.thread(); d < kMaxRanks; d += m.num_threads()) shared.named[d] = {};
    m.sync_block();
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads()) {
      const int token = shape.div_top_k(i), j = i - token * shape.top_k;
      const std::int64_t id = args.topk_ids.raw(chunk * shape.top_k + i);
      const int d = route::rank_of(id, shape);
      if (d >= 0)
        shared.named_by[token * kMaxRanks + d].set(m, j);
      else if (id != -1 && token < own)
        m.add_relaxed(&shared.counts[kMaxRanks], 1);
    }
    m.sync_block();
    // A warp handles neighbouring tokens and one rank, so a ballot gives bits of named[d].
    for (int i = m.thread(); i < kMaxRanks * kChunk; i += m.num_threads()) {
      const int d = i / kChunk, token = i % kChunk;
      const std::uint64_t goes = m.ballot(token < count && shared.named_by[token * kMaxRanks + d].all());
      if (m.lane() == 0 && goes) shared.named[d].set_from(m, token, goes);
    }
    m.sync_block();
  }

  /// Sets shared.next_row for the first chunk: at every rank, the row of the first token of the chunk that goes there.
  XD_FN void begin_rows(const layout::CountMatrix& matrix) {
    for (int d = m.thread(); d < shape.num_ranks; d += m.num_threads())
      shared.next_row[d] = matrix.first_row(call.peers.rank, d) + shared.before[d];
  }

  /// Fills shared.routes for tokens [chunk, chunk + count), a thread per token and rank, after find_chunk(). Then moves
  /// shared.next_row to the next chunk.
  XD_FN void assign_rows(std::int64_t chunk, int count) {
    m.sync_block();
    for (int i = m.thread(); i < count * kMaxRanks; i += m.num_threads())
      assign_row(&shared.routes[i / kMaxRanks * kMaxRanks], found_at(chunk) + i / kMaxRanks, i % kMaxRanks);
    m.sync_block();
    for (int d = m.thread(); d < shape.num_ranks; d += m.num_threads())
      shared.next_row[d] += __builtin_popcountll(shared.named[d].all());
  }

  /// Replay and step `move`: reads shared.routes from the plan.
  XD_FN void read_chunk(std::int64_t chunk, int count) {
    m.sync_block();
    const memory::Route* routes = call.local<memory::Route>(call.plan.routes);
    for (int i = m.thread(); i < count * shape.ranks_per_token; i += m.num_threads())
      shared.routes[i / shape.ranks_per_token * kMaxRanks + i % shape.ranks_per_token] =
          routes[chunk * shape.ranks_per_token + i];
    m.sync_block();
  }

  /// Writes routes and kept ids of this block's own tokens to the plan. An id is kept if its rank has not dropped the
  /// row.
  XD_FN void write_chunk(Coop coop, std::int64_t chunk, int count) {
    const std::int64_t own = share.own_end - chunk;
    memory::Route* planned_routes = call.local<memory::Route>(call.plan.routes) + chunk * shape.ranks_per_token;
    for (int i = coop.thread; i < count * kMaxRanks; i += coop.num_threads) {
      const int token = i / kMaxRanks, ordinal = i % kMaxRanks;
      if (ordinal < shape.ranks_per_token && token < own)
        planned_routes[token * shape.ranks_per_token + ordinal] = shared.routes[i];
    }
    std::uint64_t* kept_ids = call.local<std::uint64_t>(call.plan.kept_ids);
    for (int i = coop.thread; i < count; i += coop.num_threads) {
      const memory::Route* routes = &shared.routes[i * kMaxRanks];
      std::uint64_t kept = 0;
      XD_UNROLL(8)
      for (int o = 0; o < kMaxRanks; ++o)
        if (routes[o].row >= 0) kept |= shared.named_by[(found_at(chunk) + i) * kMaxRanks + routes[o].rank].all();
      if (i < own) kept_ids[chunk + i] = kept;
    }
  }

 private:
  /// Index of token `chunk` in shared.named_by: find_chunk() began at token 0 if it routed the whole batch, else at
  /// `chunk`.
  XD_FN int found_at(std::int64_t chunk) const { return routes_at_once() ? static_cast<int>(chunk) : 0; }

  XD_FN bool route_large_share() {
    const bool moves_nothing = share.first == share.end;  // the block that publishes; or no items are left for this one
    if (routes_at_once() || (moves_nothing && num_tokens <= kCountedAlone)) {
      route_tokens(0, num_tokens, num_tokens);
      return true;
    }
    route_tokens(share.first, share.end, share.own_end);
    return add_earlier_shares();
  }

  /// Routes tokens [first, end), chunk by chunk, and counts the rows of those before `own_end`.
  XD_FN void route_tokens(std::int64_t first, std::int64_t end, std::int64_t own_end) {
    for (std::int64_t chunk = first; chunk < end; chunk += kChunk)
      route_chunk(chunk, static_cast<int>(min<std::int64_t>(kChunk, end - chunk)), own_end - chunk);
  }

  /// Routes a chunk and counts the rows of its first `own` tokens.
  XD_FN void route_chunk(std::int64_t chunk, int count, std::int64_t own) {
    find_chunk(chunk, count, own);
    const std::uint64_t counted = Bits::below(own);
    for (int d = m.thread(); d < kMaxRanks; d += m.num_threads())
      shared.counts[d] += __builtin_popcountll(shared.named[d].all() & counted);
  }

  /// Stores this block's counts for the other blocks of this rank, and adds up those of earlier blocks in
  /// shared.before. A word holds count and epoch, so no other memory has to be ordered. False: the group has failed.
  XD_FN bool add_earlier_shares() {
    m.sync_block();
    std::uint64_t* words = call.local<std::uint64_t>(call.buffer_set.share_counts);
    for (int d = m.thread(); d < memory::kShareCounts; d += m.num_threads())
      m.store_relaxed(words + m.block() * memory::kShareCounts + d, sync::count_word(epoch, shared.counts[d]));
    bool ok = true;
    for (int i = m.thread(); i < m.block() * memory::kShareCounts && ok; i += m.num_threads()) {
      std::uint64_t count = 0;
      ok = sync::wait_count(m, call.faults, words + i, epoch, call.peers.rank, &count);
      if (count) m.add_relaxed(&shared.before[i % memory::kShareCounts], static_cast<std::uint32_t>(count));
    }
    return !m.sync_block_or(!ok);
  }

  /// Writes the route of a token to rank d. Its entry is the ordinal of d among the token's ranks, which is below the
  /// number of these ranks; the entries above are set to -1. `found`: index of the token in shared.named_by.
  XD_FN void assign_row(memory::Route* routes, int found, int d) {
    const auto named_by = [&](int e) { return shared.named_by[found * kMaxRanks + e].all(); };
    if (d >= route::num_ranks_named(named_by)) routes[d] = {-1, -1};
    if (!named_by(d)) return;
    const std::int64_t row = shared.next_row[d] + __builtin_popcountll(shared.named[d].all() & Bits::below(found));
    routes[route::ordinal_of(named_by, d)] = {d, row < shape.row_capacity ? static_cast<std::int32_t>(row) : -1};
  }
};

}  // namespace crossdock::kernels
