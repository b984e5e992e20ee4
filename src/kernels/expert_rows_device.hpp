// SPDX-License-Identifier: Apache-2.0
// Received rows by expert: the copies of a row for each of its local experts, made locally, after dispatch.
//
// Two kernels, no signal between ranks. expert_counts: every block counts the rows of its share by expert; the block
// that finishes last turns the counts into first positions. expert_rows: every block places and copies its share (the
// same share: both run with as many blocks).
// Order inside an expert is the order of the received rows: positions come from counts and bit masks, not from time.
#pragma once

#include "codec/number.hpp"
#include "kernels/phase_device.hpp"
#include "layout/slots.hpp"
#include "wire/fan_out_device.hpp"

namespace crossdock::kernels {

inline constexpr int kRowChunk = 64;      // rows placed at once: one bit each in a word
inline constexpr int kExpertGroup = 256;  // local experts handled at once
inline constexpr int kLoadsAtOnce = 16;   // of a thread that adds up: one after the other each would wait for memory

struct ExpertRowsShared {
  Bits named[kExpertGroup];  // bit i: row i of the chunk goes to this expert
};

/// What both kernels know of rows and experts.
template <class M>
struct ExpertShare {
  M& m;
  const Call& call;
  const Shape& shape = call.shape;
  const std::int32_t* ids = call.mine<std::int32_t>(call.plan.ids);
  const int first_expert = call.peers.rank * shape.experts_per_rank;
  const Range rows = share_of(call.mine<Counts>(call.plan.counts)->num_rows, m.block(), m.num_blocks());

  XD_FN std::uint32_t* positions() const {
    return call.mine<std::uint32_t>(call.plan.block_counts) + std::int64_t{m.block()} * shape.experts_per_rank;
  }
  /// Local expert that id j of row r is the first to name, or -1.
  XD_FN int local_expert(std::int64_t r, int j) const {
    const std::int32_t* row = ids + r * shape.top_k;
    const int local = row[j] - first_expert;
    if (row[j] < 0 || local < 0 || local >= shape.experts_per_rank) return -1;
    return route::first_of_its_expert([&](int i) { return row[i]; }, j) ? local : -1;
  }
};

/// First rows of the experts and the counts for the caller; one thread.
template <class M>
XD_FN void close_expert_books(M& m, const Call& call) {
  const Shape& shape = call.shape;
  const std::uint32_t* needed_rows = call.mine<std::uint32_t>(call.plan.expert_needed);
  std::uint32_t* kept_rows = call.mine<std::uint32_t>(call.plan.expert_counts);
  std::int32_t* offsets = call.mine<std::int32_t>(call.plan.expert_offsets);
  const bool fixed = shape.layout == Layout::expert_major;
  call.mine<memory::PlanFill>(call.plan.fill)->expert_rows = offsets[shape.experts_per_rank];
  std::int64_t needed = 0, dropped = 0, first = 0;
  for (int group = 0; group < shape.experts_per_rank; group += kLoadsAtOnce) {
    std::uint32_t want[kLoadsAtOnce];
    XD_UNROLL(16)
    for (int i = 0; i < kLoadsAtOnce; ++i) want[i] = group + i < shape.experts_per_rank ? needed_rows[group + i] : 0;
    XD_UNROLL(16)
    for (int i = 0; i < kLoadsAtOnce; ++i) {
      if (group + i >= shape.experts_per_rank) break;
      const std::uint32_t kept = static_cast<std::uint32_t>(layout::fitting_rows(first, want[i], shape));
      offsets[group + i] = static_cast<std::int32_t>(first);
      kept_rows[group + i] = kept;
      dropped += want[i] - kept;
      first += fixed ? shape.expert_capacity : layout::padded_rows(want[i], shape);
      needed = fixed ? larger<std::int64_t>(needed, want[i]) : first;
    }
  }
  offsets[shape.experts_per_rank] = static_cast<std::int32_t>(first);
  Counts* all = call.mine<Counts>(call.plan.counts);
  all->expert_rows_needed = needed;
  all->expert_rows_dropped = dropped;
  if (!shape.overflow_is_error || dropped == 0) return;
  sync::ReportRecord* report = call.watch.report;
  m.store_relaxed(&report->expert_rows_needed, needed);
  m.store_release(&report->expert_rows_over, m.load_relaxed(&report->expert_rows_over) + 1);
}

/// Turns what blocks have counted of one expert into the rows before each; gives their sum.
XD_FN std::uint32_t add_up_blocks(std::uint32_t* counts, int num_blocks, int stride) {
  std::uint32_t before = 0;
  for (int group = 0; group < num_blocks; group += kLoadsAtOnce) {
    std::uint32_t count[kLoadsAtOnce];
    XD_UNROLL(16)
    for (int i = 0; i < kLoadsAtOnce; ++i) count[i] = group + i < num_blocks ? counts[(group + i) * stride] : 0;
    XD_UNROLL(16)
    for (int i = 0; i < kLoadsAtOnce; ++i) {
      if (group + i < num_blocks) counts[(group + i) * stride] = before;
      before += count[i];
    }
  }
  return before;
}

template <class M>
XD_FN void expert_counts(M& m, const ExpertRowsArgs& args) {
  if (m.any_in_block(sees_failure(m, args.call))) return;
  const ExpertShare<M> share{m, args.call};
  const Shape& shape = share.shape;
  std::uint32_t* mine = share.positions();
  for (int x = m.thread(); x < shape.experts_per_rank; x += m.num_threads()) mine[x] = 0;
  m.sync_block();
  const std::int64_t pairs = (share.rows.end - share.rows.first) * shape.top_k;
  for (std::int64_t i = m.thread(); i < pairs; i += m.num_threads()) {
    const int x = share.local_expert(share.rows.first + i / shape.top_k, static_cast<int>(i % shape.top_k));
    if (x >= 0) m.add_relaxed(&mine[x], 1);
  }
  memory::PlaceState* state = args.call.mine<memory::PlaceState>(args.call.place.state);
  if (!arrive_last(m, &state->arrivals)) return;
  std::uint32_t* all = args.call.mine<std::uint32_t>(args.call.plan.block_counts);
  std::uint32_t* needed = args.call.mine<std::uint32_t>(args.call.plan.expert_needed);
  for (int x = m.thread(); x < shape.experts_per_rank; x += m.num_threads())
    needed[x] = add_up_blocks(all + x, m.num_blocks(), shape.experts_per_rank);
  m.sync_block();
  if (m.thread() == 0) close_expert_books(m, args.call);
}

template <class M>
struct ExpertRowsBody {
  M& m;
  ExpertRowsShared& shared;
  const ExpertRowsArgs& args;
  const Call& call = args.call;
  const ExpertShare<M> share{m, call};
  const Shape& shape = call.shape;
  const std::uint32_t* kept_rows = call.mine<std::uint32_t>(call.plan.expert_counts);
  const std::int32_t* offsets = call.mine<std::int32_t>(call.plan.expert_offsets);
  std::int32_t* expert_of_row = call.mine<std::int32_t>(call.plan.expert_of_row);

  XD_FN void run() {
    if (m.any_in_block(sees_failure(m, call))) return;
    const Range rows = share.rows;
    for (std::int64_t chunk = rows.first; chunk < rows.end; chunk += kRowChunk) {
      const int count = static_cast<int>(smaller<std::int64_t>(kRowChunk, rows.end - chunk));
      if (!args.replay)
        for (int group = 0; group < shape.experts_per_rank; group += kExpertGroup) place_chunk(chunk, count, group);
      m.sync_block();
      for (std::int64_t item = m.warp(); item < std::int64_t{count} * args.pieces.count; item += m.num_warps())
        copy_row(chunk + static_cast<std::uint32_t>(item) / args.pieces.count, static_cast<std::uint32_t>(item) % args.pieces.count);
    }
    mark_padding();
  }

  /// Expert rows of `count` received rows, for the experts of one group.
  XD_FN void place_chunk(std::int64_t chunk, int count, int group) {
    m.sync_block();
    for (int x = m.thread(); x < kExpertGroup; x += m.num_threads()) shared.named[x] = {};
    m.sync_block();
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads()) {
      const int x = share.local_expert(chunk + i / shape.top_k, i % shape.top_k) - group;
      if (x >= 0 && x < kExpertGroup) shared.named[x].set(m, i / shape.top_k);
    }
    m.sync_block();
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads()) {
      const int j = i % shape.top_k, x = share.local_expert(chunk + i / shape.top_k, j);
      if (x < 0 ? group == 0 : x >= group && x < group + kExpertGroup) place_pair(chunk, i / shape.top_k, j, x, group);
    }
    m.sync_block();
    for (int x = group + m.thread(); x < smaller(shape.experts_per_rank, group + kExpertGroup); x += m.num_threads())
      share.positions()[x] += __builtin_popcountll(shared.named[x - group].all());
  }

  XD_FN void place_pair(std::int64_t chunk, int i, int j, int x, int group) {
    const std::int64_t row = chunk + i, pair = row * shape.top_k + j;
    expert_of_row[pair] = -1;
    if (x < 0) return;
    const std::uint64_t earlier = shared.named[x - group].all() & ((std::uint64_t{1} << i) - 1);
    const std::int64_t position = share.positions()[x] + __builtin_popcountll(earlier), first = offsets[x];
    if (position >= kept_rows[x]) return;
    const float* weights = call.mine<float>(call.plan.weights) + row * shape.top_k;
    expert_of_row[pair] = static_cast<std::int32_t>(first + position);
    call.mine<RowSource>(call.plan.expert_sources)[first + position] = call.mine<RowSource>(call.plan.sources)[row];
    call.mine<float>(call.plan.expert_weights)[first + position] =
        codec::canonical(route::weight_of_expert(share.ids + row * shape.top_k, weights, j, shape.top_k));
  }

  /// One piece of a received row to all its experts, kMaxFan at a time.
  XD_FN void copy_row(std::int64_t row, int piece) {
    const Units units = units_of_piece(static_cast<std::int32_t>(shape.row_bytes / 16), piece, args.pieces.units_per_piece);
    for (int j0 = 0; j0 < shape.top_k; j0 += wire::kMaxFan) {
      wire::Fan rows, scales;
      bool any = false;
      XD_UNROLL(8)
      for (int i = 0; i < wire::kMaxFan; ++i) {
        const std::int64_t to = j0 + i < shape.top_k ? expert_of_row[row * shape.top_k + j0 + i] : -1;
        if (to < 0) continue;
        any = true;
        rows.to[i] = call.mine<std::byte>(call.place.expert_rows) + to * shape.row_bytes;
        scales.to[i] = call.mine<std::byte>(call.place.expert_scales) + to * shape.scale_bytes;
      }
      if (!any) continue;
      wire::fan_out(m, call.mine<std::byte>(call.place.rows) + row * shape.row_bytes, rows, units.first, units.end);
      if (piece == 0 && shape.scale_bytes)
        wire::fan_out_bytes(m, call.mine<std::byte>(call.place.scales) + row * shape.scale_bytes, scales,
                            shape.scale_bytes, shape.scale_bytes % 16 == 0);
    }
  }

  /// Rows of the expert buffer that hold no pair: source -1, weight 0, and zero bytes between experts if asked for.
  XD_FN void mark_padding() {
    const bool fixed = shape.layout == Layout::expert_major;
    for (int x = m.block(); x < shape.experts_per_rank; x += m.num_blocks()) {
      const std::int64_t end = smaller<std::int64_t>(offsets[x + 1], shape.expert_rows);
      std::int64_t r = std::int64_t{offsets[x]} + kept_rows[x] + m.warp();
      for (; r < end; r += m.num_warps())
        if (!mark(r) && fixed) break;  // marked already, and so are all rows of this expert behind it
    }
    if (fixed) return;
    const std::int64_t stride = std::int64_t{m.num_blocks()} * m.num_warps();
    const std::int64_t end = smaller<std::int64_t>(call.mine<memory::PlanFill>(call.plan.fill)->expert_rows, shape.expert_rows);
    for (std::int64_t r = offsets[shape.experts_per_rank] + std::int64_t{m.block()} * m.num_warps() + m.warp(); r < end; r += stride)
      mark_row(r);
  }

  /// Marks a padding row; true if it held a pair before.
  XD_FN bool mark(std::int64_t r) {
    if (shape.zero_padding)
      for (std::int64_t unit = m.lane(); unit < shape.row_bytes / 16; unit += M::kWidth)
        m.store16(call.mine<std::byte>(call.place.expert_rows) + r * shape.row_bytes + unit * 16, {});
    return mark_row(r);
  }
  XD_FN bool mark_row(std::int64_t r) {
    RowSource* source = call.mine<RowSource>(call.plan.expert_sources) + r;
    const bool held = source->rank >= 0;
    m.sync_warp();
    if (m.lane() == 0 && held) {
      *source = {-1, -1, -1, 0};
      call.mine<float>(call.plan.expert_weights)[r] = 0.0f;
    }
    return held;
  }
};

template <class M>
XD_FN void expert_rows(M& m, ExpertRowsShared& shared, const ExpertRowsArgs& args) {
  ExpertRowsBody<M>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
