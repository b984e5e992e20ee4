// SPDX-License-Identifier: Apache-2.0
// Who gets a token: ranks from ids, against plain division and plain search.
#include "route/token_route.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "op/shape.hpp"

namespace crossdock::route {
namespace {

Shape shape_with(int num_ranks, int num_experts, int top_k) {
  Config config;
  config.hidden = 16;
  config.num_experts = num_experts;
  config.top_k = top_k;
  config.max_tokens = 4;
  return op::shape_of(config, num_ranks);
}

TEST(Route, OwnerIsTheExpertDividedByExpertsPerRank) {
  for (const int num_experts : {1, 2, 7, 8, 9, 63, 64, 257, 4095, 65536, 999983, 1 << 20})
    for (int num_ranks = 1; num_ranks <= kMaxRanks; ++num_ranks) {
      const Shape shape = shape_with(num_ranks, num_experts, 1);
      const int per_rank = (num_experts + num_ranks - 1) / num_ranks;
      int wrong = 0;
      for (int e = 0; e < num_experts; ++e) wrong += owner_of(e, shape) != e / per_rank;
      ASSERT_EQ(wrong, 0) << num_experts << " experts on " << num_ranks;
      ASSERT_LT(owner_of(num_experts - 1, shape), num_ranks);
    }
}

TEST(Route, LocalExpertsAddUp) {
  for (int num_experts = 1; num_experts < 40; ++num_experts)
    for (int num_ranks = 1; num_ranks <= kMaxRanks; ++num_ranks) {
      const Shape shape = shape_with(num_ranks, num_experts, 1);
      std::vector<int> local(num_ranks, 0);
      for (int e = 0; e < num_experts; ++e) ++local[owner_of(e, shape)];
      for (int r = 0; r < num_ranks; ++r) EXPECT_EQ(local_experts_of(shape, r), local[r]);
    }
}

TEST(Route, IdsOfBothWidths) {
  const std::vector<std::int64_t> wide = {0, 7, 8, -1, -2, std::int64_t{1} << 32, (std::int64_t{1} << 32) + 3,
                                          std::numeric_limits<std::int64_t>::min()};
  const std::vector<std::int32_t> right = {0, 7, -1, -1, -1, -1, -1, -1};
  const std::vector<std::int32_t> narrow = {0, 7, 8, -1, -2, std::numeric_limits<std::int32_t>::max(),
                                            std::numeric_limits<std::int32_t>::min(), -7};
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ((Ids{wide.data(), true}.get(i, 8)), right[i]) << i;
    EXPECT_EQ((Ids{narrow.data(), false}.get(i, 8)), right[i]) << i;
    EXPECT_EQ((Ids{wide.data(), true}.raw(i)), wide[i]);
    EXPECT_EQ((Ids{narrow.data(), false}.raw(i)), narrow[i]);
  }
}

TEST(Route, DistinctRanksInTheOrderOfTheIds) {
  std::mt19937 random(1);
  for (int again = 0; again < 20000; ++again) {
    const int num_ranks = 1 + static_cast<int>(random() % 8), top_k = 1 + static_cast<int>(random() % 64);
    const int num_experts = 1 + static_cast<int>(random() % 50);
    const Shape shape = shape_with(num_ranks, num_experts, top_k);
    const int per_rank = (num_experts + num_ranks - 1) / num_ranks;
    std::vector<std::int32_t> ids(3 * top_k);
    for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % (num_experts + 4)) - 2;
    for (int token = 0; token < 3; ++token) {
      std::vector<int> ranks;
      int bad = 0;
      for (int j = 0; j < top_k; ++j) {
        const int id = ids[token * top_k + j];
        bad += id < -1 || id >= num_experts;
        if (id < 0 || id >= num_experts) continue;
        if (std::find(ranks.begin(), ranks.end(), id / per_rank) == ranks.end()) ranks.push_back(id / per_rank);
      }
      const TokenRoute route = route_token({ids.data(), false}, token, shape);
      ASSERT_EQ(route.count, static_cast<int>(ranks.size()));
      ASSERT_EQ(route.bad_ids, bad);
      for (int o = 0; o < route.count; ++o) {
        ASSERT_EQ(route.rank(o), ranks[o]);
        ASSERT_TRUE(route.mask >> ranks[o] & 1);
      }
      ASSERT_EQ(__builtin_popcount(route.mask), route.count);
    }
  }
}

TEST(Route, RepeatedIds) {
  const std::int32_t ids[] = {5, 3, 5, 5, 3, -1};
  const float weights[] = {1.0f, 2.0f, 4.0f, 8.0f, 16.0f, 32.0f};
  const auto id_of = [&](int j) { return ids[j]; };
  const bool first[] = {true, true, false, false, false, true};
  for (int j = 0; j < 6; ++j) EXPECT_EQ(first_of_its_expert(id_of, j), first[j]) << j;
  EXPECT_EQ(weight_of_expert(ids, weights, 0, 6), 13.0f);
  EXPECT_EQ(weight_of_expert(ids, weights, 1, 6), 18.0f);
}

/// The order of the sum is that of the ids, and it starts at +0.
TEST(Route, WeightsAreAddedInIdOrderFromPlusZero) {
  const std::int32_t ids[] = {1, 1, 1};
  const float weights[] = {1.0f, 1e8f, -1e8f};
  EXPECT_EQ(weight_of_expert(ids, weights, 0, 3), (0.0f + 1.0f + 1e8f) + -1e8f);
  const float zero[] = {-0.0f, 0.0f, 0.0f};
  EXPECT_FALSE(std::signbit(weight_of_expert(ids, zero, 0, 1)));
}

}  // namespace
}  // namespace crossdock::route
