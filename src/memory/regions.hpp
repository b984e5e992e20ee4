// SPDX-License-Identifier: Apache-2.0
// The memory of an exchange on one rank, its arena. Every region of it is declared once: name, element size, count,
// content and writers. Offsets, sizes and the list of `crossdock mem` are computed from these declarations.
//
// arena = buffer set 0 | buffer set 1 ... | plan 0 | plan 1 ...
// A buffer set serves one Received at a time: receive rows, combine slots, and the words of the signals. A plan is the
// result of one routing. Offsets are relative to the start of their buffer set or plan. The control words of a group
// are in other memory (sync/status.hpp).
#pragma once

#include <cstdint>

#include "crossdock/exchange.hpp"
#include "types/ll_packet.hpp"
#include "types/shape.hpp"

namespace crossdock::memory {

inline constexpr std::uint64_t kRegionAlign = 256;

/// Most thread blocks of any launch. Scratch memory per block is sized by it.
inline constexpr int kMaxBlocks = 256;

/// Number of counters of a dispatch block: over its share of the tokens, the rows for each rank, and the bad ids.
inline constexpr int kShareCounts = kMaxRanks + 1;

/// One destination of a token of this rank. A token has one per distinct rank, in the order in which its ids name them.
struct Route {
  std::int32_t rank;  // -1: unused entry
  std::int32_t row;   // received row there; -1: dropped
};

/// State of a buffer set. Only kernels of its own rank access it.
struct BufferSetState {
  // Number of the last operation * 2 + (it was a combine). One copy per block, so that no block waits for another.
  std::uint64_t clock[kMaxBlocks];
  std::uint32_t arrivals;  // blocks of the running kernel that have arrived (arrive_last), 0 between kernels
  std::uint32_t reserved;
};

/// How many rows of a plan have metadata. The next dispatch that writes the plan resets only the rows that it leaves
/// empty.
struct PlanFill {
  std::uint64_t rows;                     // received rows with metadata
  std::uint32_t expert_rows[kMaxBlocks];  // contiguous: rows of the expert buffer with metadata, one copy per block
};

/// Offsets in bytes from the start of a buffer set.
struct BufferSetRegions {
  std::uint64_t counts_words, expert_count_words, done_words, enter_words, ready_words, state, share_counts,
      expert_words, trace_head, trace;
  std::uint64_t rows, scales, expert_rows, expert_scales, combine_rows, combine_slots, combine_slot_weights;
  std::uint64_t mask_words, ll_packets;

  /// Calls region(name, offset member, element bytes, count, "content; writers") for each region.
  template <class Self, class Region>
  static constexpr void visit(Self& r, const Shape& s, Region&& region) {
    const std::uint64_t w = s.num_ranks, experts = s.layout == Layout::token_major ? 0 : s.expert_rows;
    region("buffer_set.counts_words", r.counts_words, 8, w * (w + 1),
           "edge counts: [source][destination | T and plan]; peers");
    region("buffer_set.expert_count_words", r.expert_count_words, 8, w * s.experts_per_rank,
           "pairs by [source][local expert], with the epoch; peers");
    region("buffer_set.done_words", r.done_words, 8, w, "edge done, by source; peers");
    region("buffer_set.enter_words", r.enter_words, 8, w, "edge enter, by source; peers");
    region("buffer_set.ready_words", r.ready_words, 8, w, "edge ready, by source; peers");
    region("buffer_set.state", r.state, sizeof(BufferSetState), 1, "clock and arrivals; own kernels");
    region("buffer_set.share_counts", r.share_counts, 8 * kShareCounts, kMaxBlocks,
           "what each block has counted; own dispatch");
    region("buffer_set.expert_words", r.expert_words, s.layout == Layout::token_major ? 0 : 8 * s.experts_per_rank,
           kMaxBlocks, "pairs by block and local expert, with the epoch; own dispatch");
    region("buffer_set.trace_head", r.trace_head, 4, s.trace_events ? 1 : 0, "time stamps taken so far; own kernels");
    region("buffer_set.trace", r.trace, sizeof(TraceEvent), s.trace_events, "the newest time stamps; own kernels");
    region("buffer_set.rows", r.rows, s.row_bytes, s.row_capacity, "received rows; peers");
    region("buffer_set.scales", r.scales, s.scale_bytes, s.row_capacity, "their scales; peers");
    region("buffer_set.expert_rows", r.expert_rows, s.row_bytes, experts, "rows by expert; own dispatch");
    region("buffer_set.expert_scales", r.expert_scales, s.scale_bytes, experts, "their scales; own dispatch");
    region("buffer_set.combine_rows", r.combine_rows, s.zero_copy ? s.combine_row_bytes : 0,
           experts ? experts : s.row_capacity, "combine buffer; the caller, read by peers");
    region("buffer_set.combine_slots", r.combine_slots, s.wire_row_bytes, s.combine_slots,
           "combine rows coming home; peers");
    region("buffer_set.combine_slot_weights", r.combine_slot_weights, s.combine_topk_weights ? 4 * s.top_k : 0,
           std::uint64_t(s.max_tokens_per_rank) * s.ranks_per_token, "their rows of weights; peers");
    // LL packets: two sets, for odd and for even epochs.
    const std::uint64_t slots = s.ll_packets_per_row ? 2 * w * s.max_tokens_per_rank : 0;
    region("buffer_set.mask_words", r.mask_words, slots ? 8 : 0, 2 * w * (w + 1),
           "edge counts for packets: [parity][source][tokens for destination | T and plan]; peers");
    region("buffer_set.ll_packets", r.ll_packets, ll_packet::kBytes * std::uint64_t(ll_packet::per_slot(s)), slots,
           "rows with their metadata: [parity][source][token]; peers");
  }
};

/// Offsets in bytes from the start of a plan.
struct PlanRegions {
  std::uint64_t counts, fill, matrix, expert_counts, expert_needed, sources, topk_ids, topk_weights, routes, kept_ids;
  std::uint64_t expert_of_row, expert_offsets, expert_sources, expert_weights;

  template <class Self, class Region>
  static constexpr void visit(Self& r, const Shape& s, Region&& region) {
    const std::uint64_t w = s.num_ranks, k = s.top_k, tokens = s.max_tokens_per_rank, rows = s.row_capacity;
    const bool by_expert = s.layout != Layout::token_major;
    const std::uint64_t experts = by_expert ? s.expert_rows : 0, local = s.experts_per_rank;
    region("plan.counts", r.counts, sizeof(Counts), 1, "counts for the caller; own dispatch");
    region("plan.fill", r.fill, sizeof(PlanFill), 1, "rows that hold metadata; own dispatch");
    region("plan.matrix", r.matrix, 8, w * (w + 1), "rows from every rank to every rank, and every T; own dispatch");
    region("plan.expert_counts", r.expert_counts, 4, local, "kept pairs by local expert; own dispatch");
    region("plan.expert_needed", r.expert_needed, by_expert ? 4 : 0, local,
           "the same before its own capacity; own dispatch");
    region("plan.sources", r.sources, sizeof(RowSource), rows, "home of each received row; peers");
    region("plan.topk_ids", r.topk_ids, 4 * k, rows, "its ids; peers");
    region("plan.topk_weights", r.topk_weights, 4 * k, rows, "its weights; peers");
    region("plan.routes", r.routes, sizeof(Route) * s.ranks_per_token, tokens,
           "destinations of each own token; own dispatch");
    region("plan.kept_ids", r.kept_ids, 8, tokens, "bit j: id j is valid and its rank kept the row; own dispatch");
    region("plan.expert_of_row", r.expert_of_row, by_expert ? 4 * k : 0, rows,
           "expert row of (row, id j), -1: none; own");
    region("plan.expert_offsets", r.expert_offsets, by_expert ? 4 : 0, local + 1, "first row of each expert; own");
    region("plan.expert_sources", r.expert_sources, sizeof(RowSource), experts, "home of each expert row; own");
    region("plan.expert_weights", r.expert_weights, 4, experts, "its weight; own");
  }
};

/// Offsets of all regions in an arena, in bytes.
struct Arena {
  BufferSetRegions buffer_set;
  PlanRegions plan;
  std::uint64_t buffer_set_bytes, plan_bytes;
  std::uint64_t plans_offset;  // buffer sets start at 0
  std::uint64_t total_bytes;   // before rounding to pages

  XD_FN std::uint64_t buffer_set_at(int buffer_set_idx, std::uint64_t region) const {
    return buffer_set_idx * buffer_set_bytes + region;
  }
  XD_FN std::uint64_t plan_at(int plan_idx, std::uint64_t region) const {
    return plans_offset + plan_idx * plan_bytes + region;
  }
};

namespace detail {
template <class Regions>
constexpr std::uint64_t assign_offsets(Regions& regions, const Shape& shape) {
  std::uint64_t end = 0;
  Regions::visit(regions, shape,
                 [&](const char*, std::uint64_t& offset, std::uint64_t element, std::uint64_t count, const char*) {
                   offset = end;
                   end += round_up<std::uint64_t>(element * count, kRegionAlign);
                 });
  return end;
}
}  // namespace detail

/// Computes all offsets and the total. No other code adds up sizes, so what is listed cannot differ from what is used.
constexpr Arena arena_of(const Shape& shape) {
  Arena arena{};
  arena.buffer_set_bytes = detail::assign_offsets(arena.buffer_set, shape);
  arena.plan_bytes = detail::assign_offsets(arena.plan, shape);
  arena.plans_offset = arena.buffer_set_bytes * shape.max_in_flight;
  arena.total_bytes = arena.plans_offset + arena.plan_bytes * shape.num_plans;
  return arena;
}

}  // namespace crossdock::memory
