// SPDX-License-Identifier: Apache-2.0
// Padding: rows of the expert buffer that hold no (token, expert) pair. They get source -1, weight 0 and, if
// Config::zero_padding is set, zero bytes. Only rows that an earlier call filled have to be marked.
#pragma once

#include "kernels/expert_rows/expert_slots_device.hpp"

namespace crossdock::kernels {

template <class M>
struct ExpertPadding {
  M& m;
  ExpertRowsShared& shared;
  const Call& call;
  const Shape& shape = call.shape;
  const ExpertSlots<M> slots{m, shared, call};

  /// Marks the padding of the first `some` experts of the group, a warp per expert.
  XD_FN void mark_padding(int some) {
    for (int x = m.block() * m.num_warps() + m.warp(); x < some; x += m.num_blocks() * m.num_warps()) {
      const std::int64_t end = min<std::int64_t>(shared.first[x + 1], shape.expert_rows);
      for (std::int64_t r = shared.first[x] + slots.kept_of(x); r < end; r += M::kWidth) {
        const std::uint64_t held = mark_rows(r, end);
        if (shape.zero_padding) zero_rows(r, end);
        if (slots.fixed && !(held >> (M::kWidth - 1) & 1))
          break;  // rows fill up from the first: later ones are marked already
      }
    }
  }
  /// Zeroes the padding of a replay. It must: the buffer set of a replay may hold rows of another plan there.
  XD_FN void zero_along_plan() {
    const std::int32_t* offsets = call.local<std::int32_t>(call.plan.expert_offsets);
    const std::uint32_t* kept = call.local<std::uint32_t>(call.plan.expert_counts);
    for (int x = m.block() * m.num_warps() + m.warp(); x < shape.experts_per_rank;
         x += m.num_blocks() * m.num_warps()) {
      const std::int64_t end = min<std::int64_t>(offsets[x + 1], shape.expert_rows);
      for (std::int64_t r = std::int64_t{offsets[x]} + kept[x]; r < end; r += M::kWidth) zero_rows(r, end);
    }
  }
  /// Contiguous layout: rows from `end_of_experts` to `filled` may hold pairs of the plan's last call, and are behind
  /// all experts now. Marks them as padding. Then stores the new end, of which every block has its own copy.
  XD_FN void mark_tail(std::int64_t filled, std::int64_t end_of_experts) {
    if (slots.fixed) return;
    const std::int64_t stride = std::int64_t{m.num_blocks()} * m.num_threads(), end = min(filled, shape.expert_rows);
    for (std::int64_t r = end_of_experts + std::int64_t{m.block()} * m.num_threads() + m.warp() * M::kWidth; r < end;
         r += stride)
      mark_rows(r, end);
    m.sync_block();
    set_copies(m, whole_block(m), call.local<memory::PlanFill>(call.plan.fill)->expert_rows,
               static_cast<std::uint32_t>(min(end_of_experts, shape.expert_rows)));
  }

  /// Marks rows as padding, from r on, one per lane, as far as they lie before `end`. Returns a mask; bit i: row r + i
  /// held a pair.
  XD_FN std::uint64_t mark_rows(std::int64_t r, std::int64_t end) {
    const std::int64_t mine = r + m.lane();
    const bool held = mine < end && call.local<RowSource>(call.plan.expert_sources)[mine].rank >= 0;
    if (held) empty_row(mine);
    return m.ballot(held);
  }
  XD_FN void empty_row(std::int64_t r) {
    call.local<RowSource>(call.plan.expert_sources)[r] = {-1, -1, -1, 0};
    call.local<float>(call.plan.expert_weights)[r] = 0.0f;
  }
  /// Zeroes kWidth rows from r on, as far as they lie before `end`; the lanes share each row.
  XD_FN void zero_rows(std::int64_t r, std::int64_t end) {
    for (int i = 0; i < M::kWidth && r + i < end; ++i)
      for (std::int64_t unit = m.lane(); unit < shape.row_bytes / 16; unit += M::kWidth)
        m.store16(call.local<std::byte>(call.buffer_set.expert_rows) + (r + i) * shape.row_bytes + unit * 16, {});
  }
};

}  // namespace crossdock::kernels
