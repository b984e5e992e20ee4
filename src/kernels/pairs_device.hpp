// SPDX-License-Identifier: Apache-2.0
// Pairs of tokens and experts: how many each expert has. The source counts its own and tells the owners, who sum them while
// rows travel. Such a word is like one of the counts: it carries its epoch and needs no permission, for its reader looks at
// it before it says `done`. One block of each rank does all of it.
#pragma once

#include "kernels/args.hpp"
#include "sync/wait_device.hpp"

namespace crossdock::kernels {

inline constexpr int kExpertsAtOnce = 512;  // experts whose pairs are counted at once

template <class M>
struct PairBooks {
  M& m;
  const Call& call;
  std::uint32_t* pairs;  // shared memory, kExpertsAtOnce of them
  const std::uint64_t epoch;
  const Shape& shape = call.shape;
  const int rank = call.peers.rank;

  /// Tells the owners of all experts what this rank's tokens bring them.
  XD_FN void send(const route::Ids& ids, std::int64_t num_tokens) {
    for (int group = 0; group < shape.num_experts; group += kExpertsAtOnce) {
      count(ids, num_tokens, group);
      for (int e = m.thread(); e < smaller(kExpertsAtOnce, shape.num_experts - group); e += m.num_threads()) {
        const int owner = route::owner_of(group + e, shape), local = group + e - owner * shape.experts_per_rank;
        const int first = rank * shape.experts_per_rank;
        std::uint64_t* word = call.at<std::uint64_t>(owner, call.place.pair_words) + first + local;
        m.store_relaxed(word, sync::count_word(epoch, pairs[e]));
      }
    }
  }

  /// Counts pairs by local expert; expert_of(i) of i in [0, num) is the expert of a pair, or negative.
  template <class ExpertOf>
  XD_FN void by_groups(int num, ExpertOf&& expert_of) {
    for (int group = 0; group < shape.experts_per_rank; group += kExpertsAtOnce) {
      const int some = smaller(kExpertsAtOnce, shape.experts_per_rank - group);
      clear();
      for (int i = m.thread(); i < num; i += m.num_threads()) {
        const int x = expert_of(i) - rank * shape.experts_per_rank - group;
        if (x >= 0 && x < some) m.add_relaxed(&pairs[x], 1);
      }
      m.sync_block();
      for (int x = m.thread(); x < some; x += m.num_threads()) counts()[group + x] = pairs[x];
    }
  }

  /// Pairs by local expert, of all sources; recount() mends them where rows are dropped here. False: the group has failed.
  XD_FN bool sum() {
    const std::uint64_t* words = call.mine<std::uint64_t>(call.place.pair_words);
    std::uint32_t* counts = this->counts();
    const int local_experts = local_experts_of(shape, rank);
    bool ok = true;
    for (int group = 0; group < shape.experts_per_rank; group += kExpertsAtOnce) {
      const int some = larger(0, smaller(kExpertsAtOnce, local_experts - group));
      clear();
      for (int i = m.thread(); i < shape.num_ranks * some && ok; i += m.num_threads()) {
        const int source = i / some, x = i - source * some, first = source * shape.experts_per_rank;
        std::uint64_t told = 0;
        ok = sync::wait_count(m, call.watch, words + first + group + x, epoch, source, &told);
        m.add_relaxed(&pairs[x], static_cast<std::uint32_t>(told));
      }
      m.sync_block();
      for (int x = m.thread(); x < smaller(kExpertsAtOnce, shape.experts_per_rank - group); x += m.num_threads())
        counts[group + x] = pairs[x];
    }
    return !m.any_in_block(!ok);
  }

  /// The senders' pairs include rows that were dropped here: counts those of the rows that were kept.
  XD_FN void recount() {
    std::uint32_t* counts = this->counts();
    for (int x = m.thread(); x < shape.experts_per_rank; x += m.num_threads()) counts[x] = 0;
    m.sync_block();
    const std::int32_t* ids = call.mine<std::int32_t>(call.plan.ids);
    for (std::int64_t i = m.thread(); i < shape.row_capacity * shape.top_k; i += m.num_threads()) {
      const std::int32_t* row = ids + i / shape.top_k * shape.top_k;
      const int j = static_cast<int>(i % shape.top_k), x = row[j] - rank * shape.experts_per_rank;
      if (row[j] >= 0 && x >= 0 && x < shape.experts_per_rank &&
          route::first_of_its_expert([&](int other) { return row[other]; }, j))
        m.add_relaxed(&counts[x], 1);
    }
  }

 private:
  /// Where experts have rows of their own, what is kept of these pairs is known later.
  XD_FN std::uint32_t* counts() const {
    return call.mine<std::uint32_t>(shape.layout == Layout::token_major ? call.plan.expert_counts
                                                                        : call.plan.expert_needed);
  }
  XD_FN void clear() {
    m.sync_block();
    for (int e = m.thread(); e < kExpertsAtOnce; e += m.num_threads()) pairs[e] = 0;
    m.sync_block();
  }

  /// Of experts [group, group + kExpertsAtOnce).
  XD_FN void count(const route::Ids& ids, std::int64_t num_tokens, int group) {
    clear();
    for (std::uint32_t i = m.thread(); i < static_cast<std::uint32_t>(num_tokens) * shape.top_k; i += m.num_threads()) {
      const std::uint32_t token = shape.by_top_k(i), first = token * shape.top_k;
      const auto id_of = [&](int j) { return ids.get(first + j, shape.num_experts); };
      const int j = static_cast<int>(i - first), id = id_of(j), e = id - group;
      if (id >= 0 && e >= 0 && e < kExpertsAtOnce && route::first_of_its_expert(id_of, j)) m.add_relaxed(&pairs[e], 1);
    }
    m.sync_block();
  }
};

}  // namespace crossdock::kernels
