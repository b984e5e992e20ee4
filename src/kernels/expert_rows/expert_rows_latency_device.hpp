// SPDX-License-Identifier: Apache-2.0
// Received rows by expert, of few rows, as a decode step has them: the same answer, straight on.
//
// Every block sets a bit for each pair of the rows up to its last, so that a repeated id is one pair without a look, and a
// warp finds the expert rows of the split that it copies while that is read. The last block copies nothing: it keeps the books.
#pragma once

#include "kernels/expert_rows/expert_rows_device.hpp"

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
  const bool keeps_books = m.block() == m.num_blocks() - 1;
  ExpertRows<M> all{.m = m, .shared = shared.rows, .args = args, .few = true, .movers = m.num_blocks() - 1};
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const int num_experts = shape.experts_per_rank;
  const int words = static_cast<int>(ceil_div<std::int64_t>(all.rows.end, 32));  // of an expert's bits

  XD_FN void run() {
    if (m.sync_block_or(found_poison(m, call))) return;
    begin();
    if (keeps_books) write_expert_counts();
    copy_rows();  // none where books are kept
    if (all.fixed) return;
    all.mark_padding(num_experts);
    all.mark_tail();
  }

  XD_FN void begin() {
    const int pairs = static_cast<int>(all.rows.end) * shape.top_k;
    std::int32_t id = m.thread() < pairs ? all.ids[m.thread()] : -1;  // under way from here on
    for (int i = m.thread(); i < num_experts * words; i += m.num_threads()) shared.rows.rows_of[i] = 0;
    all.read_needed(0, num_experts);
    if (m.thread() == 0) shared.rows.dropped = 0;
    m.sync_block();
    all.find_firsts(num_experts);
    for (int i = m.thread(); i < pairs; i += m.num_threads()) {
      const int x = local_expert(id), row = shape.div_top_k(i);
      if (x >= 0) m.or_relaxed(&shared.rows.rows_of[x * words + row / 32], 1u << (row % 32));
      if (i + m.num_threads() < pairs) id = all.ids[i + m.num_threads()];
    }
    m.sync_block();
    all.end_of_experts = shared.rows.first[num_experts];
  }

  XD_FN int local_expert(std::int32_t id) const {
    const int x = id - all.first_expert;
    return id >= 0 && x >= 0 && x < num_experts ? x : -1;
  }

  XD_FN void copy_rows() {
    for (std::int64_t item = all.items.first + m.warp(); item < all.items.end; item += m.num_warps()) {
      const int row = args.splits.div_count(static_cast<std::uint32_t>(item));
      const int split = static_cast<int>(item) - row * static_cast<int>(all.splits);
      all.copy_row(row, slots(), split, [this, row] { find_slots(row); });
      for (int j = m.lane(); split == 0 && j < shape.top_k; j += M::kWidth) all.write_pair(row, j, slots()[j], 0);
      m.sync_warp();
    }
  }
  XD_FN std::int32_t* slots() const { return shared.slots[m.warp()]; }

  XD_FN void find_slots(int row) {
    std::int32_t* experts = shared.experts[m.warp()];
    for (int j = m.lane(); j < shape.top_k; j += M::kWidth) experts[j] = local_expert(all.ids[row * shape.top_k + j]);
    m.sync_warp();
    for (int j = m.lane(); j < shape.top_k; j += M::kWidth) {
      const bool is_first = route::first_of_its_expert([&](int i) { return experts[i]; }, j);
      slots()[j] = is_first ? slot_of(experts[j], row) : -1;
    }
    m.sync_warp();
  }
  XD_FN std::int32_t slot_of(int x, int row) const {
    if (x < 0) return -1;
    const std::uint32_t* bits = &shared.rows.rows_of[x * words];
    std::int64_t position = __builtin_popcount(bits[row / 32] & ((1u << (row % 32)) - 1));
    for (int w = 0; w < row / 32; ++w) position += __builtin_popcount(bits[w]);
    return position < all.kept_of(x) ? static_cast<std::int32_t>(shared.rows.first[x] + position) : -1;
  }

  XD_FN void write_expert_counts() {
    if (all.fixed) empty_rows();
    all.write_expert_counts(0, num_experts);
  }
  /// Where experts do not move, rows that the call before has held and this one does not are known by its counts.
  XD_FN void empty_rows() {
    const std::uint32_t* held = call.local<std::uint32_t>(call.plan.expert_counts);
    for (int x = m.thread(); x < num_experts; x += m.num_threads())
      for (std::int64_t r = all.kept_of(x); r < held[x]; ++r) all.empty_row(shared.rows.first[x] + r);
  }
};

template <class M>
XD_FN void expert_rows_latency(M& m, ExpertRowsLatencyShared& shared, const ExpertRowsArgs& args) {
  ExpertRowsLatency<M>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
