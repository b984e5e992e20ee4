// SPDX-License-Identifier: Apache-2.0
// Received rows by expert for few rows, as in a decode step: the same result as expert_rows with fewer steps.
//
// Each block builds a bit map, expert x row, of all rows up to the last one that it copies. A row that names an expert
// twice sets one bit. A row's position in an expert is the number of bits before its own. A warp looks up the
// expert rows of a split while the split is being loaded. The last block copies nothing: it writes the counts.
#pragma once

#include "kernels/expert_rows/expert_padding_device.hpp"
#include "kernels/expert_rows/expert_plan_writer_device.hpp"
#include "kernels/expert_rows/row_copier_device.hpp"

namespace crossdock::kernels {

struct ExpertRowsLatencyShared {
  ExpertRowsShared rows;
  std::int32_t experts[kMaxWarps][kMaxTopk];  // of the row that a warp copies: local expert of id j, -1: none
  std::int32_t slots[kMaxWarps][kMaxTopk];    // its expert row, -1: none
};

template <class M>
struct ExpertRowsLatency {
  M& m;
  ExpertRowsLatencyShared& shared;
  const ExpertRowsArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const int num_experts = shape.experts_per_rank, first_expert = call.peers.rank * num_experts;
  const std::int32_t* ids = call.local<std::int32_t>(call.plan.topk_ids);
  const std::int64_t filled = call.local<memory::PlanFill>(call.plan.fill)->expert_rows[m.block()];
  const bool writes_counts = m.block() == m.num_blocks() - 1;
  const Range items = share_of_block();     // splits of rows
  const int end_row = end_of_rows();        // one past the last row that this block copies; 0: it copies none
  const int words = ceil_div(end_row, 32);  // 32-bit words per expert

  XD_FN void run() {
    if (m.sync_block_or(found_poison(m, call))) return;
    begin();
    if (writes_counts) write_counts();
    copy_rows();  // the block that writes counts has no rows
    if (slots().fixed) return;
    padding().mark_padding(num_experts);
    padding().mark_tail(filled, shared.rows.first[num_experts]);
  }

  XD_FN ExpertSlots<M> slots() { return {m, shared.rows, call}; }
  XD_FN ExpertPlanWriter<M> plan_writer() { return {m, shared.rows, call}; }
  XD_FN ExpertPadding<M> padding() { return {m, shared.rows, call}; }

  /// All blocks but the last share the splits. The last has none: it writes the counts and offsets, which follow from
  /// the expert_needed that dispatch has written to the plan.
  XD_FN Range share_of_block() const {
    const std::int64_t all = call.local<Counts>(call.plan.counts)->num_rows * args.splits.count;
    return writes_counts ? Range{0, 0} : share_of(all, m.block(), m.num_blocks() - 1);
  }

  XD_FN int end_of_rows() const {
    if (items.first >= items.end) return 0;
    return static_cast<int>(args.splits.div_count(static_cast<std::uint32_t>(items.end) + args.splits.count - 1));
  }

  /// Builds the bit map: bit r of expert x is set if row r names x. Also finds where each expert begins.
  XD_FN void begin() {
    const int pairs = end_row * shape.top_k;
    std::int32_t id = m.thread() < pairs ? ids[m.thread()] : -1;  // loaded while the bit map is cleared
    for (int i = m.thread(); i < num_experts * words; i += m.num_threads()) shared.rows.rows_of[i] = 0;
    slots().read_needed(0, num_experts);
    if (m.thread() == 0) shared.rows.dropped = 0;
    m.sync_block();
    slots().find_firsts(num_experts, 0);
    for (int i = m.thread(); i < pairs; i += m.num_threads()) {
      const int x = local_expert(id), row = shape.div_top_k(i);
      if (x >= 0) m.or_relaxed(&shared.rows.rows_of[x * words + row / 32], 1u << (row % 32));
      if (i + m.num_threads() < pairs) id = ids[i + m.num_threads()];
    }
    m.sync_block();
  }

  XD_FN int local_expert(std::int32_t id) const {
    const int x = id - first_expert;
    return id >= 0 && x >= 0 && x < num_experts ? x : -1;
  }

  XD_FN void copy_rows() {
    for (std::int64_t item = items.first + m.warp(); item < items.end; item += m.num_warps()) {
      const int row = args.splits.div_count(static_cast<std::uint32_t>(item));
      const int split = static_cast<int>(item) - row * args.splits.count;
      RowCopier<M>{m, args}.copy_row(row, warp_slots(), split, [this, row] { find_slots(row); });
      for (int j = m.lane(); split == 0 && j < shape.top_k; j += M::kWidth)
        plan_writer().write_pair(row, j, warp_slots()[j], 0);
      m.sync_warp();
    }
  }
  XD_FN std::int32_t* warp_slots() const { return shared.slots[m.warp()]; }

  /// Finds the expert row of each id of a row; -1 for ids of other ranks, repeated ids and dropped rows.
  XD_FN void find_slots(int row) {
    std::int32_t* experts = shared.experts[m.warp()];
    for (int j = m.lane(); j < shape.top_k; j += M::kWidth) experts[j] = local_expert(ids[row * shape.top_k + j]);
    m.sync_warp();
    for (int j = m.lane(); j < shape.top_k; j += M::kWidth) {
      const bool is_first = route::first_of_its_expert([&](int i) { return experts[i]; }, j);
      warp_slots()[j] = is_first ? slot_of(experts[j], row) : -1;
    }
    m.sync_warp();
  }
  XD_FN std::int32_t slot_of(int x, int row) {
    if (x < 0) return -1;
    const std::uint32_t* bits = &shared.rows.rows_of[x * words];
    std::int64_t position = __builtin_popcount(bits[row / 32] & ((1u << (row % 32)) - 1));
    for (int w = 0; w < row / 32; ++w) position += __builtin_popcount(bits[w]);
    return position < slots().kept_of(x) ? static_cast<std::int32_t>(shared.rows.first[x] + position) : -1;
  }

  XD_FN void write_counts() {
    if (slots().fixed) empty_rows();
    std::int64_t most_needed = 0;
    if (m.thread() == 0) {
      XD_UNROLL(16)
      for (int x = 0; x < num_experts; ++x) most_needed = max<std::int64_t>(most_needed, shared.rows.needed[x]);
    }
    plan_writer().write_counts(0, num_experts, shared.rows.first[num_experts], most_needed);
  }
  /// expert_major: marks the rows that the plan's last call filled and this one does not. It must run before the counts
  /// of that call are overwritten in the plan.
  XD_FN void empty_rows() {
    const std::uint32_t* held = call.local<std::uint32_t>(call.plan.expert_counts);
    for (int x = m.thread(); x < num_experts; x += m.num_threads())
      for (std::int64_t r = slots().kept_of(x); r < held[x]; ++r) padding().empty_row(shared.rows.first[x] + r);
  }
};

template <class M>
XD_FN void expert_rows_latency(M& m, ExpertRowsLatencyShared& shared, const ExpertRowsArgs& args) {
  ExpertRowsLatency<M>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
