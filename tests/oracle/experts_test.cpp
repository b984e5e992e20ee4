// SPDX-License-Identifier: Apache-2.0
// Rows by expert, for the worked example of worked.hpp: expert-major and contiguous, with and without enough room.
#include <gtest/gtest.h>

#include "worked.hpp"

namespace crossdock::oracle {
namespace {

using Ints = std::vector<std::int32_t>;
using Longs = std::vector<std::int64_t>;
using Floats = std::vector<float>;
using Table = std::vector<std::vector<int>>;

Case expert_case(Layout layout, std::int64_t expert_capacity, int alignment = 1) {
  Case c = worked_case();
  c.layout = layout;
  c.expert_capacity = expert_capacity;
  c.alignment = alignment;
  return c;
}

TEST(ExpertMajor, Worked) {
  const auto answers = dispatch_answer(expert_case(Layout::expert_major, 3), worked_inputs());
  const ExpertAnswer &e0 = answers[0].experts, &e1 = answers[1].experts;
  EXPECT_EQ(e0.num_rows_max, 6);
  EXPECT_EQ(e0.offsets, (Ints{0, 3, 6}));
  // Rank 0, expert 0: (0,0) at slot 0 and (1,2) at slot 3; expert 1: (0,1) at slot 1 and (0,2) at slot 2.
  EXPECT_EQ(e0.slots, (Longs{0, 3, -1, 1, 2, -1}));
  EXPECT_EQ(triples(e0.sources), (Table{{0, 0, 0}, {1, 2, 4}, {-1, -1, -1}, {0, 1, 3}, {0, 2, 4}, {-1, -1, -1}}));
  EXPECT_EQ(e0.weights, (Floats{.5f, 3, 0, 4, 1.75f, 0}));  // (0,2) names expert 1 twice: 1 + 0.75
  EXPECT_EQ(e1.slots, (Longs{0, 2, -1, 1, 3, -1}));
  EXPECT_EQ(e1.weights, (Floats{.25f, .125f, 0, 2, 2.5f, 0}));
  EXPECT_EQ(answers[0].expert_counts, (Ints{2, 2}));
  EXPECT_EQ(e0.rows_needed, 2);
  EXPECT_EQ(e0.rows_dropped, 0);
  // By slot and id: slot 0 (ids 0 2) row 0; slot 1 (3 1) row 3; slot 2 (1 1) row 4, once; slot 3 (7 0) row 1.
  EXPECT_EQ(e0.row_of_id, (Longs{0, -1, -1, 3, 4, -1, -1, 1}));
}

TEST(ExpertMajor, KeepsTheFirstRows) {
  const auto answers = dispatch_answer(expert_case(Layout::expert_major, 1), worked_inputs());
  const ExpertAnswer& e0 = answers[0].experts;
  EXPECT_EQ(e0.slots, (Longs{0, 1}));
  EXPECT_EQ(e0.needed, (Ints{2, 2}));
  EXPECT_EQ(e0.dropped, (Ints{1, 1}));
  EXPECT_EQ(answers[0].expert_counts, (Ints{1, 1}));
  EXPECT_EQ(e0.rows_needed, 2);
  EXPECT_EQ(e0.rows_dropped, 2);
  EXPECT_EQ(e0.row_of_id, (Longs{0, -1, -1, 1, -1, -1, -1, -1}));
  EXPECT_EQ(answers[1].kept_ids[2], 0b10u);  // its token-major row was kept all the same
}

TEST(ExpertMajor, RowCapacityComesFirst) {
  Case c = expert_case(Layout::expert_major, 0);
  EXPECT_EQ(expert_capacity(c), 6);
  c.row_capacity = 3;
  EXPECT_EQ(expert_capacity(c), 3);
  const auto answers = dispatch_answer(c, worked_inputs());
  EXPECT_EQ(answers[0].experts.needed, (Ints{1, 2}));  // (1,2) never arrived
  EXPECT_EQ(answers[0].experts.slots, (Longs{0, -1, -1, 1, 2, -1}));
}

TEST(Contiguous, PadsToTheAlignment) {
  const auto answers = dispatch_answer(expert_case(Layout::contiguous, 16, 8), worked_inputs());
  const ExpertAnswer& e0 = answers[0].experts;
  EXPECT_EQ(e0.num_rows_max, 16);
  EXPECT_EQ(e0.offsets, (Ints{0, 8, 16}));
  EXPECT_EQ(e0.slots, (Longs{0, 3, -1, -1, -1, -1, -1, -1, 1, 2, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(e0.weights, (Floats{.5f, 3, 0, 0, 0, 0, 0, 0, 4, 1.75f, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(e0.sources[8].token, 1);
  EXPECT_EQ(e0.sources[15].rank, -1);
  EXPECT_EQ(e0.rows_needed, 16);
}

TEST(Contiguous, AlignmentOneIsDense) {
  const auto answers = dispatch_answer(expert_case(Layout::contiguous, 0, 1), worked_inputs());
  EXPECT_EQ(answers[1].experts.offsets, (Ints{0, 2, 4}));
  EXPECT_EQ(answers[1].experts.num_rows_max, 12);  // 6 rows, two experts each
  EXPECT_EQ(answers[1].experts.slots, (Longs{0, 2, 1, 3, -1, -1, -1, -1, -1, -1, -1, -1}));
  EXPECT_EQ(answers[1].experts.row_of_id, (Longs{-1, 0, 2, -1, -1, 1, 3, -1}));
}

TEST(Contiguous, CutsAtTheCapacity) {
  const auto answers = dispatch_answer(expert_case(Layout::contiguous, 3, 1), worked_inputs());
  const ExpertAnswer& e0 = answers[0].experts;
  EXPECT_EQ(e0.slots, (Longs{0, 3, 1}));
  EXPECT_EQ(e0.offsets, (Ints{0, 2, 4}));
  EXPECT_EQ(e0.dropped, (Ints{0, 1}));
  EXPECT_EQ(answers[0].expert_counts, (Ints{2, 1}));
  EXPECT_EQ(e0.rows_needed, 4);
  EXPECT_EQ(e0.rows_dropped, 1);
}

TEST(Contiguous, AnExpertBeyondTheCapacityKeepsNothing) {
  const auto answers = dispatch_answer(expert_case(Layout::contiguous, 8, 16), worked_inputs());
  EXPECT_EQ(answers[0].expert_counts, (Ints{2, 0}));
  EXPECT_EQ(answers[0].experts.offsets, (Ints{0, 16, 32}));
  EXPECT_EQ(answers[0].experts.dropped, (Ints{0, 2}));
}

TEST(Contiguous, AnEmptyExpertTakesNoRows) {
  std::vector<RankInput> inputs = worked_inputs();
  inputs[0].ids = {1, 1, 1, 1, 1, 1};
  inputs[1].ids = {-1, -1, -1, -1, -1, -1};
  const auto answers = dispatch_answer(expert_case(Layout::contiguous, 0, 8), inputs);
  EXPECT_EQ(answers[0].experts.offsets, (Ints{0, 0, 8}));
  EXPECT_EQ(answers[1].experts.offsets, (Ints{0, 0, 0}));
  EXPECT_EQ(answers[0].expert_counts, (Ints{0, 3}));
}

TEST(Contiguous, DefaultCapacity) {
  Case c = expert_case(Layout::contiguous, 0, 8);
  EXPECT_EQ(expert_capacity(c), 32);  // 6 rows x 2 experts + 2 x 7 of padding = 26, up to a multiple of 8
  c.top_k = 1;
  EXPECT_EQ(expert_capacity(c), 24);  // 6 + 14 = 20
}

TEST(Experts, WeightsAddInF32InIdOrder) {
  Case c = expert_case(Layout::expert_major, 0);
  c.top_k = 3;
  const std::vector<std::uint8_t> row = row_of(Dtype::bf16, 8, 1);
  RankInput in = {1, row, {1, 1, 1}, {16777216.0f, 1.0f, 1.0f}, {0}};  // 2^24 + 1 = 2^24 in f32, twice
  EXPECT_EQ(dispatch_answer(c, {in, {}})[0].experts.weights[6], 16777216.0f);
  in.weights = {1.0f, 1.0f, 16777216.0f};
  EXPECT_EQ(dispatch_answer(c, {in, {}})[0].experts.weights[6], 16777218.0f);
}

TEST(Experts, RanksWithFewerExperts) {
  Case c = expert_case(Layout::expert_major, 2);
  c.num_experts = 3;
  const auto answers = dispatch_answer(c, worked_inputs());  // expert 3 does not exist now: three ids more are bad
  EXPECT_EQ(answers[0].bad_ids, 1);
  EXPECT_EQ(answers[1].bad_ids, 3);
  EXPECT_EQ(answers[1].experts.num_rows_max, 2);
  EXPECT_EQ(answers[1].experts.offsets, (Ints{0, 2}));
  EXPECT_EQ(answers[1].expert_counts, (Ints{2}));
}

}  // namespace
}  // namespace crossdock::oracle
