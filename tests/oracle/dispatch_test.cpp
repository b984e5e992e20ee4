// SPDX-License-Identifier: Apache-2.0
// Dispatch, token-major: the worked example of worked.hpp and its variations, with the expected numbers written out.
#include <gtest/gtest.h>

#include "worked.hpp"

namespace crossdock::oracle {
namespace {

using Ints = std::vector<std::int32_t>;
using Longs = std::vector<std::int64_t>;
using Floats = std::vector<float>;
using Table = std::vector<std::vector<int>>;
using Home = std::vector<std::vector<Destination>>;

TEST(Dispatch, WorkedExampleRows) {
  const auto answers = dispatch_answer(worked_case(), worked_inputs());
  const RankAnswer &a0 = answers[0], &a1 = answers[1];
  EXPECT_EQ(a0.num_rows, 4);
  EXPECT_EQ(a1.num_rows, 4);
  EXPECT_EQ(firsts(Dtype::bf16, 8, a0.rows), (Floats{1, 2, 3, 13}));
  EXPECT_EQ(firsts(Dtype::bf16, 8, a1.rows), (Floats{1, 2, 11, 12}));
  EXPECT_EQ(a0.scales, (std::vector<std::uint8_t>{0x00, 0x01, 0x02, 0x12}));
  EXPECT_EQ(a1.scales, (std::vector<std::uint8_t>{0x00, 0x01, 0x10, 0x11}));
  // Capacity is 2 ranks x 3 tokens: two rows stay empty. The id 7 comes out as -1, its weight as given.
  EXPECT_EQ(a0.ids, (Ints{0, 2, 3, 1, 1, 1, -1, 0, -1, -1, -1, -1}));
  EXPECT_EQ(a1.ids, (Ints{0, 2, 3, 1, -1, 2, 3, 3, -1, -1, -1, -1}));
  EXPECT_EQ(a0.weights, (Floats{.5f, .25f, 2, 4, 1, .75f, 9, 3, 0, 0, 0, 0}));
  EXPECT_EQ(a1.weights, (Floats{.5f, .25f, 2, 4, 8, .125f, 1, 1.5f, 0, 0, 0, 0}));
  // Two combine slots per token: the first for the rank named first. Token 1 of rank 0 names rank 1 first.
  EXPECT_EQ(triples(a0.sources), (Table{{0, 0, 0}, {0, 1, 3}, {0, 2, 4}, {1, 2, 4}, {-1, -1, -1}, {-1, -1, -1}}));
  EXPECT_EQ(triples(a1.sources), (Table{{0, 0, 1}, {0, 1, 2}, {1, 0, 0}, {1, 1, 2}, {-1, -1, -1}, {-1, -1, -1}}));
}

TEST(Dispatch, WorkedExampleCounts) {
  const auto answers = dispatch_answer(worked_case(), worked_inputs());
  const RankAnswer &a0 = answers[0], &a1 = answers[1];
  EXPECT_EQ(a0.rows_per_source, (Longs{3, 1}));
  EXPECT_EQ(a1.rows_per_source, (Longs{2, 2}));
  EXPECT_EQ(a0.dropped_per_source, (Longs{0, 0}));
  EXPECT_EQ(a0.rows_needed, 4);
  EXPECT_EQ(a0.expert_counts, (Ints{2, 2}));  // expert 0: (0,0) (1,2); expert 1: (0,1) (0,2), the latter once
  EXPECT_EQ(a1.expert_counts, (Ints{2, 2}));  // expert 2: (0,0) (1,0); expert 3: (0,1) (1,1), the latter once
  EXPECT_EQ(a0.bad_ids, 0);
  EXPECT_EQ(a1.bad_ids, 1);
  EXPECT_EQ(a0.destinations, (Home{{{0, 0}, {1, 0}}, {{1, 1}, {0, 1}}, {{0, 2}}}));
  EXPECT_EQ(a1.destinations, (Home{{{1, 2}}, {{1, 3}}, {{0, 3}}}));
  EXPECT_EQ(a0.kept_ids, (std::vector<std::uint64_t>{0b11, 0b11, 0b11}));
  EXPECT_EQ(a1.kept_ids, (std::vector<std::uint64_t>{0b10, 0b11, 0b10}));
}

TEST(Dispatch, DropsTheLastRows) {
  Case c = worked_case();
  c.row_capacity = 2;
  const auto answers = dispatch_answer(c, worked_inputs());
  EXPECT_EQ(firsts(Dtype::bf16, 8, answers[0].rows), (Floats{1, 2}));
  EXPECT_EQ(answers[0].rows_needed, 4);
  EXPECT_EQ(answers[0].rows_per_source, (Longs{2, 0}));
  EXPECT_EQ(answers[0].dropped_per_source, (Longs{1, 1}));
  EXPECT_EQ(answers[1].rows_per_source, (Longs{2, 0}));
  EXPECT_EQ(answers[1].dropped_per_source, (Longs{0, 2}));
  EXPECT_EQ(answers[0].expert_counts, (Ints{1, 1}));
  EXPECT_EQ(answers[0].destinations, (Home{{{0, 0}, {1, 0}}, {{1, 1}, {0, 1}}, {{0, -1}}}));
  EXPECT_EQ(answers[1].destinations, (Home{{{1, -1}}, {{1, -1}}, {{0, -1}}}));
  EXPECT_EQ(answers[0].kept_ids, (std::vector<std::uint64_t>{0b11, 0b11, 0}));
  EXPECT_EQ(answers[1].kept_ids, (std::vector<std::uint64_t>{0, 0, 0}));
}

// A dropped rank keeps its place in the order: W = 3, one expert each, row capacity 1.
TEST(Dispatch, DroppedRanksCountAsPositions) {
  Case c;
  c.num_ranks = 3;
  c.hidden = 8;
  c.num_experts = 3;
  c.top_k = 3;
  c.max_tokens_per_rank = 1;
  c.row_capacity = 1;
  const std::vector<std::uint8_t> row = row_of(Dtype::bf16, 8, 1);
  const auto answers =
      dispatch_answer(c, {{1, row, {1, -1, -1}, {}, {}}, {1, row, {1, 2, -1}, {}, {}}, {1, row, {2, 1, 0}, {}, {}}});
  EXPECT_EQ(answers[1].destinations[0], (std::vector<Destination>{{1, -1}, {2, 0}}));
  EXPECT_EQ(answers[2].destinations[0], (std::vector<Destination>{{2, -1}, {1, -1}, {0, 0}}));
  EXPECT_EQ(triples(answers[2].sources), (Table{{1, 0, 1}}));
  EXPECT_EQ(triples(answers[0].sources), (Table{{2, 0, 2}}));
  EXPECT_EQ(answers[1].kept_ids[0], 0b010u);
  EXPECT_EQ(answers[2].kept_ids[0], 0b100u);
}

// A token has min(k, W) combine slots: it cannot name more ranks than there are, nor more than k.
TEST(Dispatch, LandingRowsPerToken) {
  Case c = worked_case();
  c.top_k = 3;
  const std::vector<std::uint8_t> rows = rows_of(Dtype::bf16, 8, {1, 2});
  auto answers = dispatch_answer(c, {{2, rows, {0, 1, 2, 2, 3, 0}, {}, {0, 0}}, {}});
  EXPECT_EQ(landing_rows_per_token(c), 2);
  EXPECT_EQ((Table{triples(answers[0].sources)[1], triples(answers[1].sources)[1]}), (Table{{0, 1, 3}, {0, 1, 2}}));
  c.top_k = 1;
  answers = dispatch_answer(c, {{2, rows, {0, 2}, {}, {0, 0}}, {}});
  EXPECT_EQ(landing_rows_per_token(c), 1);
  EXPECT_EQ(triples(answers[1].sources)[0], (std::vector<int>{0, 1, 1}));
}

TEST(Dispatch, WithoutWeightsEachIsOne) {
  std::vector<RankInput> inputs = worked_inputs();
  inputs[0].weights.clear();
  const auto answers = dispatch_answer(worked_case(), inputs);
  EXPECT_EQ(answers[0].weights, (Floats{1, 1, 1, 1, 1, 1, 9, 3, 0, 0, 0, 0}));
}

TEST(Dispatch, NoTokens) {
  std::vector<RankInput> inputs = worked_inputs();
  inputs[0] = {};
  const auto answers = dispatch_answer(worked_case(), inputs);
  EXPECT_EQ(answers[0].num_tokens, 0);
  EXPECT_EQ(answers[0].rows_per_source, (Longs{0, 1}));
  EXPECT_EQ(firsts(Dtype::bf16, 8, answers[0].rows), (Floats{13}));
  EXPECT_EQ(firsts(Dtype::bf16, 8, answers[1].rows), (Floats{11, 12}));
}

TEST(Dispatch, MoreThanMCountsAsM) {
  Case c = worked_case();
  c.max_tokens_per_rank = 2;
  const auto answers = dispatch_answer(c, worked_inputs());
  EXPECT_EQ(answers[1].num_tokens, 2);
  EXPECT_EQ(answers[1].bad_ids, 0);
  EXPECT_EQ(firsts(Dtype::bf16, 8, answers[0].rows), (Floats{1, 2}));
}

TEST(Dispatch, BadIdsAreCountedNotFollowed) {
  std::vector<RankInput> inputs = worked_inputs();
  inputs[0].ids = {4, -2, std::int64_t{1} << 32, 0, (std::int64_t{1} << 32) - 1, -1};
  const auto answers = dispatch_answer(worked_case(), inputs);
  EXPECT_EQ(answers[0].bad_ids, 4);  // the last -1 is a hole, 2^32 - 1 is not
  EXPECT_EQ(answers[0].destinations, (Home{{}, {{0, 0}}, {}}));
  EXPECT_EQ(answers[0].kept_ids, (std::vector<std::uint64_t>{0, 0b10, 0}));
  EXPECT_EQ((Ints{answers[0].ids[0], answers[0].ids[1]}), (Ints{-1, 0}));
}

// E = 9 on W = 4: three experts each, so the last rank has none. E = 10: it has one.
TEST(Dispatch, ExpertsThatDoNotDivide) {
  Case c = worked_case();
  c.num_ranks = 4;
  c.num_experts = 9;
  EXPECT_EQ(experts_per_rank(c), 3);
  EXPECT_EQ(num_local_experts(c, 2), 3);
  EXPECT_EQ(num_local_experts(c, 3), 0);
  EXPECT_EQ(rank_of_expert(c, 8), 2);
  c.num_experts = 10;
  EXPECT_EQ(num_local_experts(c, 3), 1);
  EXPECT_EQ(rank_of_expert(c, 9), 3);
}

TEST(Dispatch, RowsAreBytes) {  // NaN codes and odd bits cross unchanged
  Case c = worked_case();
  std::vector<RankInput> inputs = worked_inputs();
  for (std::size_t i = 0; i < inputs[0].rows.size(); ++i) inputs[0].rows[i] = static_cast<std::uint8_t>(0xff - i);
  const auto answers = dispatch_answer(c, inputs);
  EXPECT_EQ(std::memcmp(answers[1].rows.data(), inputs[0].rows.data(), 32), 0);
  EXPECT_EQ(received_row(c, inputs, answers[1].sources[1]), inputs[0].rows.data() + 16);
  EXPECT_TRUE(dispatch_answer(c, inputs, false)[1].rows.empty());
}

TEST(Dispatch, RefusesShortInputs) {
  std::vector<RankInput> inputs = worked_inputs();
  inputs[1].ids.pop_back();
  EXPECT_THROW(dispatch_answer(worked_case(), inputs), std::invalid_argument);
}

}  // namespace
}  // namespace crossdock::oracle
