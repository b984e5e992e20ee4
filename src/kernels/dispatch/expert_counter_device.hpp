// SPDX-License-Identifier: Apache-2.0
// Counts the (token, expert) pairs of each expert. A rank counts the pairs of its own tokens and sends the counts to
// the ranks that own the experts. These add them up while rows travel. One block of each rank does all of it.
// Each count is a word with its epoch. It may be overwritten without a permission of its own: a sender begins its next
// dispatch after `done` of the reader, and the reader signals `done` after it has read the word.
#pragma once

#include "kernels/common/args.hpp"
#include "sync/wait_device.hpp"

namespace crossdock::kernels {

inline constexpr int kExpertsAtOnce = 512;  // experts whose pairs are counted at once

template <class M>
struct ExpertCounter {
  M& m;
  const Call& call;
  std::uint32_t* pairs;  // shared memory, kExpertsAtOnce of them
  const std::uint64_t epoch;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;

  /// Sends the pairs of this rank's tokens to the owners of all experts.
  XD_FN void send(const route::Ids& ids, std::int64_t num_tokens) {
    for (int group = 0; group < shape.num_experts; group += kExpertsAtOnce) {
      count(ids, num_tokens, group);
      for (int e = m.thread(); e < min(kExpertsAtOnce, shape.num_experts - group); e += m.num_threads()) {
        const int owner = route::owner_of(group + e, shape), local = group + e - owner * shape.experts_per_rank;
        const wire::PeerPtr words = call.remote(owner, call.buffer_set.expert_count_words);
        (words + (rank * shape.experts_per_rank + local) * 8).put_word(m, sync::count_word(epoch, pairs[e]));
      }
    }
  }

  /// Counts pairs by local expert. expert_of(i), for i in [0, num), returns the expert of pair i; negative: no pair.
  template <class ExpertOf>
  XD_FN void by_groups(int num, ExpertOf&& expert_of) {
    for (int group = 0; group < shape.experts_per_rank; group += kExpertsAtOnce) {
      const int some = min(kExpertsAtOnce, shape.experts_per_rank - group);
      clear();
      for (int i = m.thread(); i < num; i += m.num_threads()) {
        const int x = expert_of(i) - rank * shape.experts_per_rank - group;
        if (x >= 0 && x < some) m.add_relaxed(&pairs[x], 1);
      }
      m.sync_block();
      for (int x = m.thread(); x < some; x += m.num_threads()) counts()[group + x] = pairs[x];
    }
  }

  /// Adds up the counts of all source ranks, by local expert. If rows are dropped here, recount() must correct them.
  /// False: the group has failed.
  XD_FN bool sum() {
    const std::uint64_t* words = call.local<std::uint64_t>(call.buffer_set.expert_count_words);
    std::uint32_t* counts = this->counts();
    const int local_experts = local_experts_of(shape, rank);
    bool ok = true;
    for (int group = 0; group < shape.experts_per_rank; group += kExpertsAtOnce) {
      const int some = max(0, min(kExpertsAtOnce, local_experts - group));
      clear();
      for (int i = m.thread(); i < shape.num_ranks * some && ok; i += m.num_threads()) {
        const int source = i / some, x = i - source * some;
        std::uint64_t count = 0;
        ok = sync::wait_count(m, call.faults, words + source * shape.experts_per_rank + group + x, epoch, source,
                              &count);
        m.add_relaxed(&pairs[x], static_cast<std::uint32_t>(count));
      }
      m.sync_block();
      for (int x = m.thread(); x < min(kExpertsAtOnce, shape.experts_per_rank - group); x += m.num_threads())
        counts[group + x] = pairs[x];
    }
    return !m.sync_block_or(!ok);
  }

  /// Counts the pairs of the rows that were kept, from their metadata. The senders' counts include rows that were
  /// dropped here. The received rows are full then, so it reads row_capacity of them.
  XD_FN void recount() {
    std::uint32_t* counts = this->counts();
    for (int x = m.thread(); x < shape.experts_per_rank; x += m.num_threads()) counts[x] = 0;
    m.sync_block();
    const std::int32_t* ids = call.local<std::int32_t>(call.plan.topk_ids);
    for (std::int64_t i = m.thread(); i < shape.row_capacity * shape.top_k; i += m.num_threads()) {
      const std::int32_t* row = ids + i / shape.top_k * shape.top_k;
      const int x = route::local_expert_of(row, static_cast<int>(i % shape.top_k), rank, shape);
      if (x >= 0) m.add_relaxed(&counts[x], 1);
    }
  }

 private:
  /// Where the counts are written. Layouts by expert have a second capacity, so there they are the pairs needed;
  /// expert_rows writes how many of them are kept.
  XD_FN std::uint32_t* counts() const {
    return call.local<std::uint32_t>(shape.layout == Layout::token_major ? call.plan.expert_counts
                                                                         : call.plan.expert_needed);
  }
  XD_FN void clear() {
    m.sync_block();
    for (int e = m.thread(); e < kExpertsAtOnce; e += m.num_threads()) pairs[e] = 0;
    m.sync_block();
  }

  /// Counts the pairs of experts [group, group + kExpertsAtOnce) in shared memory.
  XD_FN void count(const route::Ids& ids, std::int64_t num_tokens, int group) {
    clear();
    for (std::uint32_t i = m.thread(); i < static_cast<std::uint32_t>(num_tokens) * shape.top_k; i += m.num_threads()) {
      const std::uint32_t token = shape.div_top_k(i), first = token * shape.top_k;
      const auto id_of = [&](int j) { return ids.get(first + j, shape); };
      const int j = static_cast<int>(i - first), id = id_of(j), e = id - group;
      if (id >= 0 && e >= 0 && e < kExpertsAtOnce && route::first_of_its_expert(id_of, j)) m.add_relaxed(&pairs[e], 1);
    }
    m.sync_block();
  }
};

}  // namespace crossdock::kernels
