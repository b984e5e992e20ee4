// SPDX-License-Identifier: Apache-2.0
// Writes what follows from the counts of a dispatch: the plan (the result of routing, which combine and replays read),
// the counts for the caller, and the reports for the host.
#pragma once

#include "kernels/common/phase_device.hpp"
#include "layout/slots.hpp"

namespace crossdock::kernels {

/// T, the number of tokens of a call, in [0, max_tokens_per_rank]. A T in device memory that is out of range is clamped
/// and reported.
template <class M>
XD_FN std::int64_t tokens_of(M& m, const DispatchArgs& args) {
  const std::int64_t asked = args.num_tokens_on_device ? *args.num_tokens_on_device : args.num_tokens;
  const std::int64_t tokens = max<std::int64_t>(0, min<std::int64_t>(asked, args.call.shape.max_tokens_per_rank));
  if (tokens != asked && m.block() == 0 && m.thread() == 0) {
    sync::ReportRecord* report = args.call.faults.report;
    m.store_relaxed(&report->last_tokens, static_cast<std::uint64_t>(asked));
    m.store_release(&report->tokens_clamped, m.load_relaxed(&report->tokens_clamped) + 1);
  }
  return tokens;
}

template <class M>
struct PlanWriter {
  M& m;
  const Call& call;
  const layout::CountMatrix matrix;  // of this call, in shared memory
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;

  /// Writes T and the number of bad ids of this call, which are neither an expert nor -1. One thread.
  XD_FN void report_tokens(std::int64_t num_tokens, std::uint32_t bad_ids) const {
    Counts* counts = call.local<Counts>(call.plan.counts);
    counts->num_tokens = num_tokens;
    counts->bad_ids = bad_ids;
    if (!bad_ids) return;
    std::uint64_t* all = &call.faults.report->bad_ids;
    m.store_release(all, m.load_relaxed(all) + bad_ids);
  }

  /// Clears the metadata of the received rows that the plan's last call filled (all before `filled`) and that this call
  /// leaves empty. Blocks share the rows: this is block `block` of `num_blocks`.
  XD_FN void clean_tail(Coop coop, std::int64_t filled, int block, int num_blocks) const {
    const std::int64_t first = min(matrix.rows_needed(rank), shape.row_capacity) + block;
    const std::int64_t stride = std::int64_t{num_blocks} * coop.num_threads;
    for (std::int64_t r = first + std::int64_t{num_blocks} * coop.thread; r < filled; r += stride) {
      call.local<RowSource>(call.plan.sources)[r] = {-1, -1, -1, 0};
      for (int j = 0; j < shape.top_k; ++j) {
        call.local<std::int32_t>(call.plan.topk_ids)[r * shape.top_k + j] = -1;
        call.local<float>(call.plan.topk_weights)[r * shape.top_k + j] = 0.0f;
      }
    }
  }

  /// Writes the count matrix, and the counts that follow from it. One block.
  XD_FN void write_matrix(Coop coop) const {
    const int cells = shape.num_ranks * (shape.num_ranks + 1);
    for (int i = coop.thread; i < cells; i += coop.num_threads)
      call.local<std::uint64_t>(call.plan.matrix)[i] = matrix.cells[i];
    Counts* counts = call.local<Counts>(call.plan.counts);
    for (int s = coop.thread; s < shape.num_ranks; s += coop.num_threads) {
      counts->rows_per_source[s] = matrix.kept_rows(s, rank, shape.row_capacity);
      counts->dropped_per_source[s] = matrix.rows(s, rank) - counts->rows_per_source[s];
    }
    if (coop.thread != 0) return;
    counts->rows_needed = matrix.rows_needed(rank);
    counts->num_rows = min(counts->rows_needed, shape.row_capacity);
    call.local<memory::PlanFill>(call.plan.fill)->rows = counts->num_rows;
    if (shape.overflow_is_error && counts->rows_needed > shape.row_capacity) {
      sync::ReportRecord* report = call.faults.report;
      m.store_relaxed(&report->rows_needed, counts->rows_needed);
      m.store_release(&report->rows_over, m.load_relaxed(&report->rows_over) + 1);
    }
  }
};

}  // namespace crossdock::kernels
