// SPDX-License-Identifier: Apache-2.0
// Received rows by expert: copies each received row into the expert buffer, once for each local expert that its ids
// name. One kernel after dispatch, on this rank only: no signal between ranks.
//
// dispatch has written how many (token, expert) pairs each expert has, so every block can compute where each expert
// begins. A block must also know how many pairs of each expert are in the rows of earlier blocks. If rows are few it
// counts them itself. Else blocks exchange counts, in words that carry the tag of the epoch: within one launch, whose
// blocks must be resident together, or from a first launch (step `count`) to a second one of as many blocks (`copy`).
// Inside an expert, rows are in the order of the received rows: positions come from counts and bit masks, not from
// timing.
#pragma once

#include "kernels/expert_rows/expert_padding_device.hpp"
#include "kernels/expert_rows/expert_plan_writer_device.hpp"
#include "kernels/expert_rows/row_copier_device.hpp"

namespace crossdock::kernels {

template <class M>
struct ExpertRows {
  M& m;
  ExpertRowsShared& shared;
  const ExpertRowsArgs& args;
  const Call& call = args.call;
  const Shape& shape = call.shape;
  const std::uint64_t epoch = read_clock(m, call).epoch;  // the next one: no word of an earlier call carries it
  const std::int64_t num_rows = call.local<Counts>(call.plan.counts)->num_rows;
  const std::int64_t filled = call.local<memory::PlanFill>(call.plan.fill)->expert_rows[m.block()];
  const std::int32_t* ids = call.local<std::int32_t>(call.plan.topk_ids);
  const bool one_group = shape.experts_per_rank <= kExpertGroup;
  const bool few = one_group && num_rows <= kFewRows;
  const std::uint32_t splits = args.splits.count;
  const Range items = share_of_block();  // splits of rows
  const Range rows = rows_of_items();
  std::int64_t end_of_experts = 0;  // end of the last expert whose rows are assigned so far
  std::int64_t most_needed = 0;     // most rows that one expert needs; thread 0 of the last block

  XD_FN void run() {
    if (m.sync_block_or(found_poison(m, call))) return;
    if (go_over_rows() && !args.replay) padding().mark_tail(filled, end_of_experts);
  }

  XD_FN ExpertSlots<M> slots() { return {m, shared, call}; }
  XD_FN RowCopier<M> copier() { return {m, args}; }
  XD_FN ExpertPlanWriter<M> plan_writer() { return {m, shared, call}; }
  XD_FN ExpertPadding<M> padding() { return {m, shared, call}; }

  /// Few rows: blocks share splits, so that a row may be copied by several blocks. Else they share whole rows.
  XD_FN Range share_of_block() const {
    if (few) return share_of(num_rows * splits, m.block(), m.num_blocks());
    const Range whole = share_of(num_rows, m.block(), m.num_blocks());
    return {whole.first * splits, whole.end * splits};
  }
  XD_FN Range rows_of_items() const {
    if (!few) return share_of(num_rows, m.block(), m.num_blocks());
    if (items.first >= items.end) return {0, 0};
    const std::uint32_t end = static_cast<std::uint32_t>(items.end) + splits - 1;
    return {args.splits.div_count(static_cast<std::uint32_t>(items.first)), args.splits.div_count(end)};
  }
  /// The block that copies the first split of a row writes its plan.
  XD_FN bool owns(std::int64_t row) const { return row * splits >= items.first && row * splits < items.end; }

  /// Each pass over the rows assigns the slots of one group of experts. If there is one group, the same pass copies the
  /// rows. Else one more pass copies them, to the slots that are in the plan; a replay consists of that pass. False:
  /// the group of ranks has failed.
  XD_FN bool go_over_rows() {
    for (int group = args.replay ? shape.experts_per_rank : 0;; group += kExpertGroup) {
      const int some = min(kExpertGroup, shape.experts_per_rank - group);
      const bool assigns = some > 0, copies = one_group || !assigns;
      if (assigns && !begin_group(group, some)) return false;
      if (args.step == ExpertRowsStep::count) {
        if (group + kExpertGroup < shape.experts_per_rank) continue;
        return false;  // nothing more to do in this launch
      }
      for (std::int64_t chunk = rows.first; chunk < rows.end; chunk += kRowChunk) {
        const int count = static_cast<int>(min<std::int64_t>(kRowChunk, rows.end - chunk));
        assigns ? assign_rows(chunk, count, group, some) : recall_chunk(chunk, count);
        if (copies) copy_chunk(chunk, count);
        if (assigns) write_chunk(chunk, count, group);
      }
      if (assigns) padding().mark_padding(some);
      if (assigns && m.block() == m.num_blocks() - 1) write_counts(group, some);
      if (!copies) continue;
      if (args.replay && shape.zero_padding) padding().zero_along_plan();
      return true;
    }
  }

  /// Finds where the experts of a group begin, and how many of their pairs are in rows before this block's. False: the
  /// group of ranks has failed.
  XD_FN bool begin_group(int group, int some) {
    m.sync_block();
    slots().read_needed(group, some);
    if (m.thread() == 0) shared.dropped = 0;
    m.sync_block();
    slots().find_firsts(some, end_of_experts);
    if (few)
      count_rows({0, rows.first}, group, some);
    else if (!wait_earlier_blocks(group, some))
      return false;
    m.sync_block();
    end_of_experts = shared.first[some];
    return true;
  }

  /// Adds to shared.before, for each expert, the number of its pairs in the rows of `range`.
  XD_FN void count_rows(const Range& range, int group, int some) {
    const std::int64_t pairs = (range.end - range.first) * shape.top_k;
    for (std::int64_t i = m.thread(); i < pairs; i += m.num_threads()) {
      const std::int64_t row = few ? shape.div_top_k(static_cast<std::uint32_t>(i)) : i / shape.top_k;
      const int x = local_expert(range.first + row, static_cast<int>(i - row * shape.top_k)) - group;
      if (x >= 0 && x < some) m.add_relaxed(&shared.before[x], 1);
    }
  }

  /// Stores the pairs of this block's rows for the other blocks, then sets shared.before to the pairs in the rows of
  /// earlier blocks. Step `count` does the first half only, step `copy` the second, which then has nothing to wait for.
  /// False: the group of ranks has failed.
  XD_FN bool wait_earlier_blocks(int group, int some) {
    std::uint64_t* words = call.local<std::uint64_t>(call.buffer_set.expert_words) + group;
    if (args.step != ExpertRowsStep::copy) {
      count_rows(rows, group, some);
      m.sync_block();
      for (int x = m.thread(); x < some; x += m.num_threads()) {
        m.store_relaxed(words + std::int64_t{m.block()} * shape.experts_per_rank + x,
                        sync::count_word(epoch, shared.before[x]));
        shared.before[x] = 0;
      }
      if (args.step == ExpertRowsStep::count) return true;
    }
    m.sync_block();
    const int parts = max(1, m.num_threads() / some);  // threads that share an expert
    bool ok = true;
    for (int i = m.thread(); i < some * parts && ok; i += m.num_threads())
      ok = add_words(words, i % some, i / some, parts);
    return !m.sync_block_or(!ok);
  }

  /// Adds the counts of expert x of blocks part, part + parts, ... before this one to shared.before. First it loads
  /// kLoadsAtOnce words at once, then polls those that are not there yet. False: the group of ranks has failed.
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
        std::uint64_t count = sync::value_of(word[i]);
        if (sync::tag_in(word[i]) != sync::tag_of(epoch) &&
            !sync::wait_count(m, call.faults, words + std::int64_t{b + i * parts} * shape.experts_per_rank + x, epoch,
                              call.peers.rank, &count))
          return false;
        sum += count;
      }
    }
    if (sum) m.add_relaxed(&shared.before[x], static_cast<std::uint32_t>(sum));
    return true;
  }

  /// Fills shared.slots: the expert row of each pair of a chunk; -1 for ids without one in this group. Then adds
  /// the pairs of the chunk to shared.before.
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

  XD_FN int local_expert(std::int64_t row, int j) const {
    return route::local_expert_of(ids + row * shape.top_k, j, call.peers.rank, shape);
  }

  XD_FN std::int32_t slot_of(int x, int row_of_chunk) {
    if (x < 0) return -1;
    const std::uint64_t earlier = shared.named[x].all() & Bits::below(row_of_chunk);
    const std::int64_t position = shared.before[x] + __builtin_popcountll(earlier);
    return position < slots().kept_of(x) ? static_cast<std::int32_t>(shared.first[x] + position) : -1;
  }

  /// Writes the plan of this block's own rows. It runs after the copies, so that they start earlier.
  XD_FN void write_chunk(std::int64_t chunk, int count, int group) {
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads()) {
      const int row = shape.div_top_k(i);
      if (owns(chunk + row)) plan_writer().write_pair(chunk + row, i - row * shape.top_k, shared.slots[i], group);
    }
  }

  /// Reads shared.slots of a chunk from the plan.
  XD_FN void recall_chunk(std::int64_t chunk, int count) {
    const std::int32_t* slots = call.local<std::int32_t>(call.plan.expert_of_row) + chunk * shape.top_k;
    m.sync_block();
    for (int i = m.thread(); i < count * shape.top_k; i += m.num_threads()) shared.slots[i] = slots[i];
    m.sync_block();
  }

  /// Copies this block's splits of rows [chunk, chunk + count) to the expert rows that shared.slots lists.
  XD_FN void copy_chunk(std::int64_t chunk, int count) {
    const std::int64_t start = chunk * splits;
    const int end = static_cast<int>(min<std::int64_t>(items.end - start, std::int64_t{count} * splits));
    for (int item = static_cast<int>(max<std::int64_t>(items.first - start, 0)) + m.warp(); item < end;
         item += m.num_warps()) {
      const int row = args.splits.div_count(item), split = item - row * static_cast<int>(splits);
      const int first = row * shape.top_k;
      copier().copy_row(chunk + row, &shared.slots[first], split, [] {});
    }
  }

  /// Writes the counts and offsets of these experts, which the caller and combine read. One block.
  XD_FN void write_counts(int group, int some) {
    if (m.thread() == 0) {
      XD_UNROLL(16)
      for (int x = 0; x < some; ++x) most_needed = max<std::int64_t>(most_needed, shared.needed[x]);
    }
    plan_writer().write_counts(group, some, end_of_experts, most_needed);
  }
};

template <class M>
XD_FN void expert_rows(M& m, ExpertRowsShared& shared, const ExpertRowsArgs& args) {
  ExpertRows<M>{m, shared, args}.run();
}

}  // namespace crossdock::kernels
