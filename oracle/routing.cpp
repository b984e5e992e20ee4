// SPDX-License-Identifier: Apache-2.0
// The routings by name.
#include <algorithm>
#include <limits>
#include <numeric>

#include "oracle/inputs.hpp"
#include "oracle/random.hpp"

namespace crossdock::oracle {
namespace {

constexpr std::uint64_t kIds = 100, kGroup = 101;  // streams of random numbers, apart from those of inputs.cpp

using Ids = std::vector<std::int64_t>;

// Appends ids of `pool` in random order, none that `ids` has, until there are k; then -1.
void add_distinct(const Case& c, Ids pool, Random& random, Ids& ids) {
  for (std::int64_t id : ids) std::erase(pool, id);
  for (std::size_t i = 0; i < pool.size() && static_cast<int>(ids.size()) < c.top_k; ++i) {
    const std::int64_t other = static_cast<std::int64_t>(i) + random.below(static_cast<std::int64_t>(pool.size() - i));
    std::swap(pool[i], pool[other]);
    ids.push_back(pool[i]);
  }
  ids.resize(c.top_k, -1);
}

Ids all_experts(const Case& c) {
  Ids pool(c.num_experts);
  std::iota(pool.begin(), pool.end(), 0);
  return pool;
}

Ids experts_where(const Case& c, int rank, bool on_it) {
  Ids pool = all_experts(c);
  std::erase_if(pool, [&](std::int64_t id) { return (rank_of_expert(c, id) == rank) != on_it; });
  return pool;
}

int num_ranks_with_experts(const Case& c) { return rank_of_expert(c, c.num_experts - 1) + 1; }

// One random expert on each rank, the ranks in random order or `first` before the others; then distinct experts.
void spread(const Case& c, int first, Random& random, Ids& ids) {
  std::vector<int> ranks(num_ranks_with_experts(c));
  std::iota(ranks.begin(), ranks.end(), 0);
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    const bool fixed = i == 0 && first >= 0;
    const std::int64_t other = static_cast<std::int64_t>(i) + random.below(static_cast<std::int64_t>(ranks.size() - i));
    std::swap(ranks[i], ranks[fixed ? first : other]);
    if (static_cast<int>(ids.size()) == c.top_k) return;
    ids.push_back(std::int64_t{ranks[i]} * experts_per_rank(c) + random.below(num_local_experts(c, ranks[i])));
  }
  add_distinct(c, all_experts(c), random, ids);
}

// 2^40 / n^1.2 in integers, n^0.2 to nine binary places by trial: equal with every compiler.
std::uint64_t zipf_weight(std::uint64_t n) {
  std::uint64_t root = 1 << 9;
  const auto fifth_power_fits = [&](std::uint64_t r) { return r * r * r * r * r <= n << 45; };
  while (fifth_power_fits(root + 1)) ++root;
  return (std::uint64_t{1} << 49) / (n * root);
}

// Draws k distinct experts. A draw that repeats one takes the next expert in the order of probability instead.
class Zipf {
 public:
  Zipf(const Case& c, std::uint64_t seed) : favourites_(all_experts(c)), sums_(c.num_experts) {
    Random random(hash_of({kGroup, seed}));
    for (int i = 0; i < c.num_experts; ++i) {
      std::swap(favourites_[i], favourites_[i + random.below(c.num_experts - i)]);
      sums_[i] = (i > 0 ? sums_[i - 1] : 0) + zipf_weight(static_cast<std::uint64_t>(i) + 1);
    }
  }

  void draw(const Case& c, Random& random, Ids& ids) const {
    const int count = std::min(c.top_k, c.num_experts);
    while (static_cast<int>(ids.size()) < count) {
      const std::uint64_t point = random.next() % sums_.back();
      std::size_t n = std::upper_bound(sums_.begin(), sums_.end(), point) - sums_.begin();
      while (std::find(ids.begin(), ids.end(), favourites_[n]) != ids.end()) n = (n + 1) % favourites_.size();
      ids.push_back(favourites_[n]);
    }
    ids.resize(c.top_k, -1);
  }

 private:
  Ids favourites_;
  std::vector<std::uint64_t> sums_;
};

std::int64_t bad_id(const Case& c, bool wide, Random& random) {
  const std::int64_t kTwo32 = std::int64_t{1} << 32;
  const std::int64_t narrow_ids[] = {c.num_experts, c.num_experts + 1, -2, std::numeric_limits<std::int32_t>::max(),
                                     std::numeric_limits<std::int32_t>::min()};
  const std::int64_t wide_ids[] = {kTwo32 + random.below(c.num_experts), kTwo32 - 1, -kTwo32,
                                   std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::min()};
  return wide && random.below(2) == 0 ? wide_ids[random.below(5)] : narrow_ids[random.below(5)];
}

Ids ids_of_token(const Case& c, Routing routing, const Zipf& zipf, std::uint64_t seed, Random random) {
  const int one_rank =
      static_cast<int>(hash_of({kGroup, seed}) % static_cast<std::uint64_t>(num_ranks_with_experts(c)));
  Ids ids;
  switch (routing) {
    case Routing::distinct_ranks:
      spread(c, -1, random, ids);
      return ids;
    case Routing::soft_hot:
      spread(c, 0, random, ids);
      return ids;
    case Routing::zipf:
      zipf.draw(c, random, ids);
      return ids;
    case Routing::all_to_one:
      add_distinct(c, experts_where(c, one_rank, true), random, ids);
      return ids;
    case Routing::idle_rank:
      add_distinct(c, experts_where(c, one_rank, false), random, ids);
      return ids;
    case Routing::hot_spot:
      for (int j = 0; j < c.top_k; ++j) ids.push_back(j < c.num_experts ? j : -1);
      return ids;
    case Routing::mixed: {
      const auto other = static_cast<Routing>(random.below(static_cast<int>(Routing::mixed)));
      return ids_of_token(c, other == Routing::bad64 ? Routing::random : other, zipf, seed, random);
    }
    default:
      break;  // random ids; some routings change them below
  }
  add_distinct(c, all_experts(c), random, ids);
  Random spoiler(random.next() ^ kIds);
  const bool empty = routing == Routing::holes && spoiler.below(8) == 0;
  for (int j = 0; j < c.top_k; ++j) {
    const bool quarter = spoiler.below(4) == 0;
    if (routing == Routing::holes && (empty || quarter)) ids[j] = -1;
    if (routing == Routing::duplicates && j > 0 && spoiler.below(2) == 0) ids[j] = ids[spoiler.below(j)];
    if (routing == Routing::bad && quarter) ids[j] = bad_id(c, false, spoiler);
    if (routing == Routing::bad64 && quarter) ids[j] = bad_id(c, true, spoiler);
  }
  return ids;
}

}  // namespace

std::vector<std::int64_t> make_ids(const Case& c, Routing routing, std::uint64_t seed, int rank, int num_tokens) {
  const Zipf zipf(c, seed);
  Ids all;
  for (int t = 0; t < num_tokens; ++t) {
    const Random random(hash_of({kIds, seed, static_cast<std::uint64_t>(rank), static_cast<std::uint64_t>(t)}));
    const Ids ids = ids_of_token(c, routing, zipf, seed, random);
    all.insert(all.end(), ids.begin(), ids.end());
  }
  return all;
}

}  // namespace crossdock::oracle
