// SPDX-License-Identifier: Apache-2.0
// Received rows by expert: the copies of a row for each of its local experts, made locally, after dispatch.
//
// One kernel, no signal between ranks. dispatch has told how many pairs every expert has, so every block knows where each
// expert begins; what it lacks are the pairs of the rows before its own. Of few rows it counts them itself; else blocks
// tell each other what they have counted, by words that carry the epoch: they must be resident together.
// Order inside an expert is the order of the received rows: positions come from counts and bit masks, not from time.
#pragma once

#include "codec/number.hpp"
#include "kernels/common/phase_device.hpp"
#include "layout/slots.hpp"
#include "wire/fan_out_device.hpp"

namespace crossdock::kernels {

inline constexpr int kRowChunk = 64;     // rows placed at once: one bit each in a word
inline constexpr int kFewRows = 512;     // rows that a block counts in less time than it takes to hear of the others
inline constexpr int kLoadsAtOnce = 16;  // of a thread that adds up: one after the other each would wait for memory

struct ExpertRowsShared {
  std::uint32_t before[kExpertGroup];    // pairs of an expert in the rows before those at hand
  std::uint32_t needed[kExpertGroup];    // in all rows
  std::uint32_t taken[kExpertGroup];     // rows that the expert occupies, padding included
  std::int64_t first[kExpertGroup + 1];  // where it begins
  Bits named[kExpertGroup];              // bit i: row i of the chunk goes to this expert
  union {
    std::int32_t slots[kRowChunk * kMaxTopk];  // expert row of (row of the chunk, id), -1: none
    std::uint32_t rows_of[kMaxLatencyWords];   // of few rows, bits by expert: those that name it
  };
  std::uint32_t dropped;
};

template <class M>
struct ExpertRows {
  M& m;
  ExpertRowsShared& shared;
  const ExpertRowsArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const std::uint64_t epoch = read_clock(m, call).epoch;  // of the coming operation: nobody else's words carry it yet
  const std::int64_t num_rows = call.local<Counts>(call.plan.counts)->num_rows;
  const std::int64_t filled = call.local<memory::PlanFill>(call.plan.fill)->expert_rows[m.block()];
  const std::int32_t* ids = call.local<std::int32_t>(call.plan.topk_ids);
  const int first_expert = call.peers.rank * shape.experts_per_rank;
  const bool fixed = shape.layout == Layout::expert_major;
  const bool one_group = shape.experts_per_rank <= kExpertGroup;
  const bool few = one_group && num_rows <= kFewRows;
  const int movers = m.num_blocks();
  const std::uint32_t splits = args.splits.count;
  const Range items = share_of_block();  // splits of rows
  const Range rows = rows_of_items();
  std::int64_t end_of_experts = 0;  // of those placed so far
  std::int64_t most_needed = 0;

  XD_FN void run() {
    if (m.sync_block_or(found_poison(m, call))) return;
    if (go_over_rows() && !args.replay) mark_tail();
  }

  XD_FN Range share_of_block() const {
    if (m.block() >= movers) return {0, 0};
    if (few) return share_of(num_rows * splits, m.block(), movers);
    const Range whole = share_of(num_rows, m.block(), m.num_blocks());
    return {whole.first * splits, whole.end * splits};
  }
  XD_FN Range rows_of_items() const {
    if (!few) return share_of(num_rows, m.block(), m.num_blocks());
    if (items.first >= items.end) return {0, 0};
    const std::uint32_t end = static_cast<std::uint32_t>(items.end) + splits - 1;
    return {args.splits.div_count(static_cast<std::uint32_t>(items.first)), args.splits.div_count(end)};
  }
  /// A row belongs to the block that has its first split.
  XD_FN bool owns(std::int64_t row) const { return row * splits >= items.first && row * splits < items.end; }

  /// Goes over the rows once for each group of experts, to buffer set them, and copies them last: at once if there is one group, else
  /// along the plan, as a replay does. False: the group of ranks has failed.
  XD_FN bool go_over_rows() {
    for (int group = args.replay ? shape.experts_per_rank : 0;; group += kExpertGroup) {
      const int some = min(kExpertGroup, shape.experts_per_rank - group);
      const bool buffer_sets = some > 0, copies = one_group || !buffer_sets;
      if (buffer_sets && !begin_group(group, some)) return false;
      for (std::int64_t chunk = rows.first; chunk < rows.end; chunk += kRowChunk) {
        const int count = static_cast<int>(min<std::int64_t>(kRowChunk, rows.end - chunk));
        buffer_sets ? assign_rows(chunk, count, group, some) : recall_chunk(chunk, count);
        if (copies) copy_chunk(chunk, count);
        if (buffer_sets) write_chunk(chunk, count, group);
      }
      if (buffer_sets) mark_padding(some);
      if (buffer_sets && m.block() == m.num_blocks() - 1) write_expert_counts(group, some);
      if (!copies) continue;
      if (args.replay && shape.zero_padding) zero_along_plan();
      return true;
    }
  }

  /// Finds where the experts of a group begin, and their pairs before this block's rows. False: the group of ranks has failed.
  XD_FN bool begin_group(int group, int some) {
    m.sync_block();
    read_needed(group, some);
    if (m.thread() == 0) shared.dropped = 0;
    m.sync_block();
    find_firsts(some);
    if (few)
      count_rows({0, rows.first}, group, some);
    else if (!wait_earlier_blocks(group, some))
      return false;
    m.sync_block();
    end_of_experts = shared.first[some];
    return true;
  }

  XD_FN void read_needed(int group, int some) {
    const std::uint32_t* needed = call.local<std::uint32_t>(call.plan.expert_needed) + group;
    for (int x = m.thread(); x < some; x += m.num_threads()) {
      shared.needed[x] = needed[x];
      shared.taken[x] =
          static_cast<std::uint32_t>(fixed ? shape.expert_capacity : layout::padded_rows(needed[x], shape));
      shared.before[x] = 0;
    }
  }
  XD_FN void find_firsts(int some) {
    std::int64_t first = end_of_experts;
    for (int x = m.thread(), summed = 0; x <= some; summed = x, x += m.num_threads()) {
      const int end = fixed ? summed : x;
      XD_UNROLL(16)
      for (int y = summed; y < end; ++y) first += shared.taken[y];
      shared.first[x] = fixed ? end_of_experts + x * shape.expert_capacity : first;
    }
  }

  /// Adds the pairs of `range` to shared.before.
  XD_FN void count_rows(const Range& range, int group, int some) {
    const std::int64_t pairs = (range.end - range.first) * shape.top_k;
    for (std::int64_t i = m.thread(); i < pairs; i += m.num_threads()) {
      const std::int64_t row = few ? shape.div_top_k(static_cast<std::uint32_t>(i)) : i / shape.top_k;
      const int x = local_expert(range.first + row, static_cast<int>(i - row * shape.top_k)) - group;
      if (x >= 0 && x < some) m.add_relaxed(&shared.before[x], 1);
    }
  }

  XD_FN bool wait_earlier_blocks(int group, int some) {
    count_rows(rows, group, some);
    m.sync_block();
    std::uint64_t* words = call.local<std::uint64_t>(call.buffer_set.expert_words) + group;
    for (int x = m.thread(); x < some; x += m.num_threads()) {
      m.store_relaxed(words + std::int64_t{m.block()} * shape.experts_per_rank + x,
                      sync::count_word(epoch, shared.before[x]));
      shared.before[x] = 0;
    }
    m.sync_block();
    const int parts = max(1, m.num_threads() / some);  // threads that share an expert
    bool ok = true;
    for (int i = m.thread(); i < some * parts && ok; i += m.num_threads())
      ok = add_words(words, i % some, i / some, parts);
    return !m.sync_block_or(!ok);
  }

  /// What blocks part, part + parts, and so on before this one tell of expert x.
  XD_FN bool add_words(const std::uint64_t* words, int x, int part, int parts) {
    std::uint64_t sum = 0;
    for (int b = part; b < m.block(); b += parts * kLoadsAtOnce) {
      std::uint64_t word[kLoadsAtOnce];
      XD_UNROLL(16)
      for (int i = 0; i < kLoadsAtOnce; ++i)
        word[i] = b + i * parts < m.block()
                      ? m.load_relaxed(words + std::int64_t{b + i * parts} * shape.experts_per_rank + x)
                      : 0;
      XD_UNROLL(16)
      for (int i = 0; i < kLoadsAtOnce; ++i) {
        if (b + i * parts >= m.block()) break;
        std::uint64_t told = sync::value_of(word[i]);
        if (sync::epoch_of(word[i]) != sync::epoch_in_word(epoch) &&
            !sync::wait_count(m, call.faults, words + std::int64_t{b + i * parts} * shape.experts_per_rank + x, epoch,
                              call.peers.rank, &told))
          return false;
        sum += told;
      }
    }
    if (sum) m.add_relaxed(&shared.before[x], static_cast<std::uint32_t>(sum));
    return true;
  }

  /// Local expert that id j of row r is the first to name, or -1.
  XD_FN int local_expert(std::int64_t r, int j) const {
    const std::int32_t* row = ids + r * shape.top_k;
    const int local = row[j] - first_expert;
    if (row[j] < 0 || local < 0 || local >= shape.experts_per_rank) return -1;
    return route::first_of_its_expert([&](int i) { return row[i]; }, j) ? local : -1;
  }

  XD_FN std::int64_t kept_of(int x) const { return layout::fitting_rows(shared.first[x], shared.needed[x], shape); }

  /// Fills shared.slots for `count` rows, as far as the experts of one group go.
  XD_FN void assign_rows(std::int64_t chunk, int count, int group, int some) {
    m.sync_block();
    for (int x = m.thread(); x < some; x += m.num_threads()) shared.named[x] = {};
    m.sync_block();
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads()) {
      const int row = shape.div_top_k(i), x = local_expert(chunk + row, i - row * shape.top_k) - group;
      shared.slots[i] = x >= 0 && x < some ? x : -1;
      if (x >= 0 && x < some) shared.named[x].set(m, row);
    }
    m.sync_block();
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads())
      shared.slots[i] = slot_of(shared.slots[i], shape.div_top_k(i));
    m.sync_block();
    for (int x = m.thread(); x < some; x += m.num_threads())
      shared.before[x] += __builtin_popcountll(shared.named[x].all());
  }

  XD_FN std::int32_t slot_of(int x, int row_of_chunk) const {
    if (x < 0) return -1;
    const std::uint64_t earlier = shared.named[x].all() & Bits::below(row_of_chunk);
    const std::int64_t position = shared.before[x] + __builtin_popcountll(earlier);
    return position < kept_of(x) ? static_cast<std::int32_t>(shared.first[x] + position) : -1;
  }

  /// Writes the plan of this block's own rows; after the copies, which do not wait for it.
  XD_FN void write_chunk(std::int64_t chunk, int count, int group) {
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads()) {
      const int row = shape.div_top_k(i);
      if (owns(chunk + row)) write_pair(chunk + row, i - row * shape.top_k, shared.slots[i], group);
    }
  }

  XD_FN void write_pair(std::int64_t row, int j, std::int32_t slot, int group) {
    if (slot >= 0 || group == 0) call.local<std::int32_t>(call.plan.expert_of_row)[row * shape.top_k + j] = slot;
    if (slot < 0) return;
    const float* weights = call.local<float>(call.plan.topk_weights) + row * shape.top_k;
    call.local<RowSource>(call.plan.expert_sources)[slot] = call.local<RowSource>(call.plan.sources)[row];
    call.local<float>(call.plan.expert_weights)[slot] =
        codec::canonical(route::weight_of_expert(ids + row * shape.top_k, weights, j, shape.top_k));
  }

  XD_FN void recall_chunk(std::int64_t chunk, int count) {
    const std::int32_t* slots = call.local<std::int32_t>(call.plan.expert_of_row) + chunk * shape.top_k;
    m.sync_block();
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads()) shared.slots[i] = slots[i];
    m.sync_block();
  }

  /// This block's splits of rows [chunk, chunk + count), which have their slots.
  XD_FN void copy_chunk(std::int64_t chunk, int count) {
    const std::int64_t start = chunk * splits;
    const int end = static_cast<int>(min<std::int64_t>(items.end - start, std::int64_t{count} * splits));
    for (int item = static_cast<int>(max<std::int64_t>(items.first - start, 0)) + m.warp(); item < end;
         item += m.num_warps()) {
      const int row = args.splits.div_count(item), split = item - row * static_cast<int>(splits);
      const int first = row * shape.top_k;
      copy_row(chunk + row, &shared.slots[first], split, [] {});
    }
  }

  /// One split of a received row to all its experts. Its slots are there when `find_slots` has been called, behind the first reads.
  template <class FindSlots>
  XD_FN void copy_row(std::int64_t row, const std::int32_t* slots, int split, FindSlots&& find_slots) {
    const Units units =
        units_of_split(static_cast<std::int32_t>(shape.row_bytes / 16), split, args.splits.units_per_split);
    const std::byte* from = call.local<std::byte>(call.buffer_set.rows) + row * shape.row_bytes;
    wire::Turn<M> turn;
    wire::load_turn(m, from, units.first + m.lane(), units.end, turn);
    find_slots();
    const auto slot_in = [&](std::uint64_t region, std::int64_t bytes) {
      return [=, this](int j) {
        return slots[j] < 0 ? wire::PeerPtr() : call.remote(call.peers.rank, region) + slots[j] * bytes;
      };
    };
    const auto to = slot_in(call.buffer_set.expert_rows, shape.row_bytes);
    wire::store_turn(m, turn, units.first + m.lane(), units.end, shape.top_k, to);
    wire::fan_out(m, from, units.first + wire::kUnitsPerTurn<M>, units.end, shape.top_k, to);
    if (split == 0 && shape.scale_bytes)
      wire::fan_out_bytes(m, call.local<std::byte>(call.buffer_set.scales) + row * shape.scale_bytes, shape.scale_bytes,
                          shape.scale_bytes % 16 == 0, shape.top_k,
                          slot_in(call.buffer_set.expert_scales, shape.scale_bytes));
  }

  /// Rows of these experts that hold no pair: source -1, weight 0, and zero bytes if asked for. A warp takes an expert.
  XD_FN void mark_padding(int some) {
    for (int x = m.block() * m.num_warps() + m.warp(); x < some; x += m.num_blocks() * m.num_warps()) {
      const std::int64_t end = min<std::int64_t>(shared.first[x + 1], shape.expert_rows);
      for (std::int64_t r = shared.first[x] + kept_of(x); r < end; r += M::kWidth) {
        const std::uint64_t held = mark_rows(r, end);
        if (shape.zero_padding) zero_rows(r, end);
        if (fixed && !(held >> (M::kWidth - 1) & 1)) break;  // what the call before has not held is marked already
      }
    }
  }
  /// A replay's padding: its buffer set may hold rows of another plan.
  XD_FN void zero_along_plan() {
    const std::int32_t* offsets = call.local<std::int32_t>(call.plan.expert_offsets);
    const std::uint32_t* kept = call.local<std::uint32_t>(call.plan.expert_counts);
    for (int x = m.block() * m.num_warps() + m.warp(); x < shape.experts_per_rank;
         x += m.num_blocks() * m.num_warps()) {
      const std::int64_t end = min<std::int64_t>(offsets[x + 1], shape.expert_rows);
      for (std::int64_t r = std::int64_t{offsets[x]} + kept[x]; r < end; r += M::kWidth) zero_rows(r, end);
    }
  }
  /// contiguous: rows behind the experts that the call before had filled. Every block has its own copy of how far they went.
  XD_FN void mark_tail() {
    if (fixed) return;
    const std::int64_t stride = std::int64_t{m.num_blocks()} * m.num_threads(), end = min(filled, shape.expert_rows);
    for (std::int64_t r = end_of_experts + std::int64_t{m.block()} * m.num_threads() + m.warp() * M::kWidth; r < end;
         r += stride)
      mark_rows(r, end);
    m.sync_block();
    set_copies(m, whole_block(m), call.local<memory::PlanFill>(call.plan.fill)->expert_rows,
               static_cast<std::uint32_t>(min(end_of_experts, shape.expert_rows)));
  }

  /// Marks up to a warp's width of rows from r, a lane each; bit i: row r + i held a pair before.
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
  /// Up to a warp's width of rows from r.
  XD_FN void zero_rows(std::int64_t r, std::int64_t end) {
    for (int i = 0; i < M::kWidth && r + i < end; ++i)
      for (std::int64_t unit = m.lane(); unit < shape.row_bytes / 16; unit += M::kWidth)
        m.store16(call.local<std::byte>(call.buffer_set.expert_rows) + (r + i) * shape.row_bytes + unit * 16, {});
  }

  /// What the caller and combine read of these experts; one block.
  XD_FN void write_expert_counts(int group, int some) {
    for (int x = m.thread(); x < some; x += m.num_threads()) {
      const std::uint32_t kept = static_cast<std::uint32_t>(kept_of(x));
      call.local<std::uint32_t>(call.plan.expert_counts)[group + x] = kept;
      call.local<std::int32_t>(call.plan.expert_offsets)[group + x] = static_cast<std::int32_t>(shared.first[x]);
      if (kept < shared.needed[x]) m.add_relaxed(&shared.dropped, shared.needed[x] - kept);
    }
    m.sync_block();
    if (m.thread() != 0) return;
    XD_UNROLL(16)
    for (int x = 0; x < some; ++x) most_needed = max<std::int64_t>(most_needed, shared.needed[x]);
    write_plan(group);
  }
  /// The sums over all groups so far; one thread.
  XD_FN void write_plan(int group) {
    call.local<std::int32_t>(call.plan.expert_offsets)[shape.experts_per_rank] =
        static_cast<std::int32_t>(end_of_experts);
    Counts* all = call.local<Counts>(call.plan.counts);
    all->expert_rows_needed = fixed ? most_needed : end_of_experts;
    all->expert_rows_dropped = (group == 0 ? 0 : all->expert_rows_dropped) + shared.dropped;
    const bool last = group + kExpertGroup >= shape.experts_per_rank;
    if (!last || !shape.overflow_is_error || all->expert_rows_dropped == 0) return;
    sync::ReportRecord* report = call.faults.report;
    m.store_relaxed(&report->expert_rows_needed, all->expert_rows_needed);
    m.store_release(&report->expert_rows_over, m.load_relaxed(&report->expert_rows_over) + 1);
  }
};

template <class M>
XD_FN void expert_rows(M& m, ExpertRowsShared& shared, const ExpertRowsArgs& args) {
  ExpertRows<M>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
