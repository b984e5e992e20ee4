// SPDX-License-Identifier: Apache-2.0
// Writes the results of expert_rows into the plan, for the caller, combine and replays.
#pragma once

#include "codec/number.hpp"
#include "kernels/expert_rows/expert_slots_device.hpp"

namespace crossdock::kernels {

template <class M>
struct ExpertPlanWriter {
  M& m;
  ExpertRowsShared& shared;
  const Call& call;
  const Shape& shape = call.shape;
  const ExpertSlots<M> slots{m, shared, call};

  /// Writes that id j of a received row has expert row `slot`; -1: it has none. Each group of experts calls this for
  /// all ids. Only the first stores -1, so that no later one overwrites a slot.
  XD_FN void write_pair(std::int64_t row, int j, std::int32_t slot, int group) {
    if (slot >= 0 || group == 0) call.local<std::int32_t>(call.plan.expert_of_row)[row * shape.top_k + j] = slot;
    if (slot < 0) return;
    const float* weights = call.local<float>(call.plan.topk_weights) + row * shape.top_k;
    call.local<RowSource>(call.plan.expert_sources)[slot] = call.local<RowSource>(call.plan.sources)[row];
    call.local<float>(call.plan.expert_weights)[slot] = codec::canonical(route::weight_of_expert(
        call.local<std::int32_t>(call.plan.topk_ids) + row * shape.top_k, weights, j, shape.top_k));
  }

  /// Writes the counts and offsets of a group of experts, which the caller and combine read. One block. `end`: where
  /// the last expert of the group ends. `most_needed`: most rows that an expert has needed so far.
  XD_FN void write_counts(int group, int some, std::int64_t end, std::int64_t most_needed) {
    for (int x = m.thread(); x < some; x += m.num_threads()) {
      const std::uint32_t kept = static_cast<std::uint32_t>(slots.kept_of(x));
      call.local<std::uint32_t>(call.plan.expert_counts)[group + x] = kept;
      call.local<std::int32_t>(call.plan.expert_offsets)[group + x] = static_cast<std::int32_t>(shared.first[x]);
      if (kept < shared.needed[x]) m.add_relaxed(&shared.dropped, shared.needed[x] - kept);
    }
    m.sync_block();
    if (m.thread() != 0) return;
    write_sums(group, end, most_needed);
  }
  /// Writes the sums over all groups so far. One thread. The last group also reports dropped rows, if that is an error.
  XD_FN void write_sums(int group, std::int64_t end, std::int64_t most_needed) {
    call.local<std::int32_t>(call.plan.expert_offsets)[shape.experts_per_rank] = static_cast<std::int32_t>(end);
    Counts* all = call.local<Counts>(call.plan.counts);
    all->expert_rows_needed = slots.fixed ? most_needed : end;
    all->expert_rows_dropped = (group == 0 ? 0 : all->expert_rows_dropped) + shared.dropped;
    const bool last = group + kExpertGroup >= shape.experts_per_rank;
    if (!last || !shape.overflow_is_error || all->expert_rows_dropped == 0) return;
    sync::ReportRecord* report = call.faults.report;
    m.store_relaxed(&report->expert_rows_needed, all->expert_rows_needed);
    m.store_release(&report->expert_rows_over, m.load_relaxed(&report->expert_rows_over) + 1);
  }
};

}  // namespace crossdock::kernels
