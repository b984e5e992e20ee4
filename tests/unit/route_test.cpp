// SPDX-License-Identifier: Apache-2.0
// Who gets a token: ranks from ids, against plain division and plain search.
#include "route/token_route.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "op/shape.hpp"

namespace crossdock::route {
namespace {

Shape shape_with(int num_ranks, int num_experts, int top_k) {
  Config config;
  config.hidden = 16;
  config.num_experts = num_experts;
  config.top_k = top_k;
  config.max_tokens_per_rank = 4;
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

TEST(Route, DivisorsDivide) {
  for (const std::uint32_t divisor :
       {1u, 2u, 3u, 5u, 7u, 8u, 9u, 31u, 64u, 65u, 1000u, 65535u, 65537u, (1u << 20) - 1, 1u << 20, 1u << 24}) {
    const Divisor by = Divisor::of(divisor);
    constexpr std::uint64_t kEnd = std::uint64_t{1} << 31;
    for (std::uint64_t near = 0; near < kEnd; near += kEnd / 4096 / divisor * divisor + divisor)
      for (const std::uint64_t number : {near, near + divisor - 1, near + divisor, kEnd - 1 - near}) {
        if (number >= kEnd) continue;
        ASSERT_EQ(by(static_cast<std::uint32_t>(number)), number / divisor) << number << " / " << divisor;
      }
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
  const std::vector<std::int64_t> wide = {
      0, 7, 8, -1, -2, std::int64_t{1} << 32, (std::int64_t{1} << 32) + 3, std::numeric_limits<std::int64_t>::min()};
  const std::vector<std::int32_t> right = {0, 7, -1, -1, -1, -1, -1, -1};
  const std::vector<std::int32_t> narrow = {
      0, 7, 8, -1, -2, std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int32_t>::min(), -7};
  const Shape shape = shape_with(1, 8, 1);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ((Ids{wide.data(), true}.get(i, shape)), right[i]) << i;
    EXPECT_EQ((Ids{narrow.data(), false}.get(i, shape)), right[i]) << i;
    EXPECT_EQ((Ids{wide.data(), true}.raw(i)), wide[i]);
    EXPECT_EQ((Ids{narrow.data(), false}.raw(i)), narrow[i]);
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
