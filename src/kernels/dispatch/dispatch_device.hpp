// SPDX-License-Identifier: Apache-2.0
// dispatch: sends every token to the ranks that own its experts, straight into its final row there.
//
// Writes: the receive rows and metadata of all ranks, and this rank's own plan.
// Readers: the caller's expert step after the kernel, and combine.
// Edges (release/acquire pairs between ranks, docs/protocol.md):
//   counts   sent before any row. It says how many rows go where, and that its sender reads nothing of earlier calls.
//   done     sent after the last row. The kernel ends only when the rows of all ranks have landed here.
// No deadlock, in one launch (DispatchStep::whole): every block waits for the counts of all ranks, and the block with
// the highest index publishes this rank's counts before it waits. So all blocks must be resident together; src/op
// limits the grid to that. Only the block that finishes last waits for done.
// In three launches, `route` and `finish` wait, with few blocks. `move` sends rows along the plan that `route` wrote,
// with many blocks, and waits for nothing.
//
// kLatency: a kernel for small batches, of at most one chunk (kChunk tokens), one split per warp and one unit of it per
// lane. fits_latency() checks this on the host, so the kernel has no code for other cases: with so little data, the
// number of instructions decides its time.
#pragma once

#include "kernels/dispatch/expert_counter_device.hpp"
#include "kernels/dispatch/plan_writer_device.hpp"
#include "kernels/dispatch/router_device.hpp"
#include "kernels/dispatch/row_mover_device.hpp"
#include "kernels/dispatch/signals_device.hpp"

namespace crossdock::kernels {

inline constexpr int kBlocksThatSuffice = 12;  // enough to fill the link; 4 x H200 need fewer (2026-11-22)

template <class M, bool kLatency>
struct Dispatch {
  M& m;
  DispatchShared& shared;
  const DispatchArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;
  const std::uint64_t epoch = read_clock(m, call).epoch;
  const std::uint64_t poison = load_poison(m, call);
  const std::int64_t filled = call.local<memory::PlanFill>(call.plan.fill)->rows;
  const std::int64_t num_tokens = routes() ? tokens_of(m, args) : matrix_of_plan().tokens(rank);
  const std::uint32_t splits = args.splits.count;
  const Range items = share_of_block();  // splits of tokens
  const TokenShare tokens = {token_of(items.first), token_of(items.end), token_of(items.end + splits - 1)};
  bool failed = false;  // as this thread has seen it

  /// Routes and publishes the counts, loads the first rows while the counts of all ranks travel, then moves the rows.
  /// If a thread finds a failure, its block skips the rest: a failed rank signals nothing but poison.
  XD_FN void run() {
    const bool publishes = m.block() == m.num_blocks() - 1;
    // kLatency: a block of its own counts (token, expert) pairs; no other block of this rank waits for it.
    const bool counts_experts = moves() && !replay() && (kLatency ? m.block() == m.num_blocks() - 2 : publishes);
    mark(Phase::begin);
    if (routes() && !(kLatency && counts_experts)) failed = !router().route_share();
    if (record_poison(m, call, poison)) failed = true;
    if (publishes && !follows_route()) publish_counts();
    if (counts_experts) publish_expert_counts();
    const bool holds = kLatency || (items.end - items.first <= m.num_warps() && shape.top_k <= M::kWidth);
    RowMover<M, kLatency> mover{m, shared, args, items, holds};
    if (moves()) mover.load_item(items.first + m.warp());
    if (moves() && holds) mover.hold_item();
    mark(Phase::wait_counts);
    if (!(follows_route() ? recall_counts() : signals().wait_counts(shared.matrix, failed))) return;
    mark(Phase::move);
    if (moves() || routes()) move_rows(mover);
    if (counts_experts && !expert_counter().sum()) return;
    moves() ? finish() : finish_plan();
    mark(Phase::end);
  }

  /// Whether this launch moves rows. Else it only routes.
  XD_FN bool moves() const { return kLatency || args.step != DispatchStep::route; }
  /// Whether an earlier launch has routed the tokens of this call.
  XD_FN bool follows_route() const { return !kLatency && args.step == DispatchStep::move; }
  /// Whether this launch finds the routes, and writes them to the plan. Else they are there.
  XD_FN bool routes() const { return !replay() && !follows_route(); }

  XD_FN void mark(Phase phase) { kernels::mark(m, call, epoch, phase, false); }

  // ---- parts --------------------------------------------------------------------------------------------------------

  XD_FN Router<M, kLatency> router() { return {m, shared, args, epoch, num_tokens, tokens}; }
  XD_FN DispatchSignals<M> signals() { return {m, call, epoch}; }
  XD_FN PlanWriter<M> plan_writer() { return {m, call, matrix()}; }
  XD_FN ExpertCounter<M> expert_counter() { return {m, call, shared.pairs, epoch}; }

  XD_FN layout::CountMatrix matrix_of_plan() const {
    return {call.local<std::uint64_t>(call.plan.matrix), shape.num_ranks};
  }
  XD_FN layout::CountMatrix matrix() const { return {shared.matrix, shape.num_ranks}; }

  // ---- which tokens -------------------------------------------------------------------------------------------------

  XD_FN bool replay() const { return !kLatency && args.replay; }
  XD_FN std::int64_t token_of(std::int64_t i) const { return args.splits.div_count(static_cast<std::uint32_t>(i)); }

  /// Splits that this block moves. The last block publishes the counts; it moves none if the others suffice, that is if
  /// they fill the link or have a warp for every split.
  XD_FN Range share_of_block() const {
    const std::int64_t all = num_tokens * splits;
    const int others = m.num_blocks() - 1;
    const bool suffice = others >= kBlocksThatSuffice || (others > 0 && all <= std::int64_t{others} * m.num_warps());
    const int movers = kLatency ? m.num_blocks() - kControlBlocksLatency : suffice ? others : m.num_blocks();
    return m.block() < movers ? share_of(all, m.block(), movers) : Range{all, all};
  }

  // ---- counts -------------------------------------------------------------------------------------------------------

  XD_FN void publish_counts() {
    mark(Phase::publish);
    m.sync_block();
    signals().publish_counts(failed, [this](int d) { return count_for(d); });
    if (!replay() && m.thread() == 0)
      plan_writer().report_tokens(num_tokens, shared.before[kMaxRanks] + shared.counts[kMaxRanks]);
  }
  /// For d < W, the number of ranks: how many rows this rank has for rank d. For d = W: layout::token_cell(). In the
  /// last block, shared.counts has the rows of its own tokens and shared.before those of all earlier blocks. So their
  /// sum is the count of the whole rank.
  XD_FN std::uint64_t count_for(int d) const {
    if (replay()) return matrix_of_plan().cells[rank * (shape.num_ranks + 1) + d];
    return d == shape.num_ranks ? layout::token_cell(num_tokens, call.plan_idx) : shared.before[d] + shared.counts[d];
  }

  /// Sends the number of pairs of each expert to the rank that owns it. ExpertCounter::sum() adds them up later.
  XD_FN void publish_expert_counts() {
    failed = m.sync_block_or(failed);
    if (!failed) expert_counter().send(args.topk_ids, num_tokens);
  }

  // ---- rows ---------------------------------------------------------------------------------------------------------

  XD_FN void move_rows(RowMover<M, kLatency>& mover) {
    if (items.first >= items.end) return;
    if (routes()) router().begin_rows(matrix());
    if constexpr (kLatency) {
      router().assign_rows(tokens.first, static_cast<int>(tokens.end - tokens.first));
      const std::uint32_t item = static_cast<std::uint32_t>(items.first) + m.warp();
      if (item < items.end) mover.move_item(item, static_cast<std::uint32_t>(tokens.first));
    } else {
      move_chunks(mover);
    }
  }

  /// For each chunk: finds the routes, sends the rows, writes the plan. The plan of the last chunk is written later: in
  /// finish(), while one warp waits for done; in step `route`, in finish_plan().
  XD_FN void move_chunks(RowMover<M, kLatency>& mover) {
    std::int64_t item = items.first + m.warp();
    for (std::int64_t chunk = tokens.first; chunk < tokens.end; chunk += kChunk) {
      const int count = static_cast<int>(min<std::int64_t>(kChunk, tokens.end - chunk));
      if (!routes()) {
        router().read_chunk(chunk, count);
      } else {
        if (!router().routes_once()) router().find_chunk(chunk, count, 0);
        router().assign_rows(chunk, count);
      }
      const std::int64_t last = min(items.end, (chunk + count) * splits);
      for (; moves() && item < last; item += m.num_warps())
        mover.move_item(static_cast<std::uint32_t>(item), static_cast<std::uint32_t>(chunk));
      if (routes() && chunk + count < tokens.end) router().write_chunk(whole_block(m), chunk, count);
    }
  }

  // ---- the steps of a large batch -----------------------------------------------------------------------------------

  /// Step `route`: writes the rest of the plan. Every block reads PlanFill when it begins, so only the block that
  /// finishes last may overwrite it: write_matrix() does.
  XD_FN void finish_plan() {
    if (replay()) return;
    const bool last = arrive_last(m, &call.local<memory::BufferSetState>(call.buffer_set.state)->arrivals);
    write_routing(whole_block(m), last);
  }

  /// Step `move`: the counts of all ranks, which step `route` has awaited. False: the group has failed.
  XD_FN bool recall_counts() {
    if (m.sync_block_or(failed)) return false;
    for (int i = m.thread(); i < shape.num_ranks * (shape.num_ranks + 1); i += m.num_threads())
      shared.matrix[i] = matrix_of_plan().cells[i];
    return true;
  }

  // ---- the end ------------------------------------------------------------------------------------------------------

  /// In the block that finishes last, warp 0 signals done and waits for the peers. Meanwhile its other warps write the
  /// plan, which no peer reads. This hides the time of the release and of misses in the instruction cache.
  /// If rows were dropped here, the counts of pairs that the senders gave are too high: recount().
  XD_FN void finish() {
    mark(Phase::signal_done);
    const bool last = arrive_last(m, &call.local<memory::BufferSetState>(call.buffer_set.state)->arrivals);
    const bool waits = last && m.warp() == 0;
    if (waits) signals().signal_done();
    if (!waits || m.num_warps() == 1) write_plan(last);
    const bool ok = !waits || signals().wait_done();
    if (!last || m.sync_block_or(!ok) || replay() || matrix().rows_needed(rank) <= shape.row_capacity) return;
    mark(Phase::recount);
    expert_counter().recount();
  }

  XD_FN void write_plan(bool last) {
    mark(Phase::write_plan);
    const bool leaves_one = last && m.num_warps() > 1;  // warp 0 waits for done
    const Coop coop = leaves_one ? Coop{m.thread() - M::kWidth, m.num_threads() - M::kWidth} : whole_block(m);
    if (routes()) write_routing(coop, last);
    advance_clock(m, coop, call, epoch, false);
  }

  /// Writes to the plan the block's last chunk, whose routes are still in shared memory, and, in the block that finishes
  /// last, what follows from the counts.
  XD_FN void write_routing(Coop coop, bool last) {
    if (items.first < items.end) {
      const std::int64_t chunk = tokens.first + (tokens.end - 1 - tokens.first) / kChunk * kChunk;
      router().write_chunk(coop, chunk, static_cast<int>(tokens.end - chunk));
    }
    plan_writer().clean_tail(coop, filled, m.block(), m.num_blocks());
    if (last) plan_writer().write_matrix(coop);
  }
};

template <class M>
XD_FN void dispatch(M& m, DispatchShared& shared, const DispatchArgs& args) {
  Dispatch<M, false>{m, shared, args}.run();
}
template <class M>
XD_FN void dispatch_latency(M& m, DispatchShared& shared, const DispatchArgs& args) {
  Dispatch<M, true>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
