// SPDX-License-Identifier: Apache-2.0
// Combine: order of sums, rounding, wires, weights; numbers written out by hand.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "worked.hpp"

namespace crossdock::oracle {
namespace {

using Floats = std::vector<float>;
using Bytes = std::vector<std::uint8_t>;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Combines outputs that have one value per row; returns the value of each token of each rank.
std::vector<Floats> combined(const Case& c, const std::vector<RankInput>& inputs, const std::vector<Floats>& values) {
  std::vector<Bytes> rows;
  std::vector<RankOutput> outputs;
  for (const Floats& v : values) rows.push_back(rows_of(c.combine_dtype, c.hidden, v));
  for (const Bytes& r : rows) outputs.push_back({r});
  std::vector<Floats> out;
  for (const RankResult& r : combine_answer(c, dispatch_answer(c, inputs), outputs)) {
    out.push_back(firsts(c.combine_dtype, c.hidden, r.rows));
  }
  return out;
}

// Outputs by slot: rank 0 has tokens (0,0) (0,1) (0,2) (1,2), rank 1 has (0,0) (0,1) (1,0) (1,1).
TEST(Combine, WorkedTokenMajor) {
  const auto out = combined(worked_case(), worked_inputs(), {{1, 2, 4, 8}, {16, 32, 64, 128}});
  EXPECT_EQ(out[0], (Floats{17, 34, 4}));  // no routing weight is applied
  EXPECT_EQ(out[1], (Floats{64, 128, 8}));
}

TEST(Combine, RoundsOnceToTheRowsType) {
  // bf16 has 8 bits: 1 + 2^-8 is a tie and falls to 1; 1.0078125 + 2^-8 is a tie and rises to 1.015625.
  const auto out = combined(worked_case(), worked_inputs(), {{1, 1.0078125f, 0, 0}, {0x1p-8f, 0x1p-8f, 0, 0}});
  EXPECT_EQ(out[0], (Floats{1, 1.015625f, 0}));
}

TEST(Combine, DroppedRowsAreMissing) {
  Case c = worked_case();
  c.row_capacity = 2;
  const std::vector<RankInput> inputs = worked_inputs();
  const auto answers = dispatch_answer(c, inputs);
  const Bytes r0 = rows_of(Dtype::bf16, 8, {1, 2}), r1 = rows_of(Dtype::bf16, 8, {16, 32});
  const auto results = combine_answer(c, answers, {{r0}, {r1}});
  EXPECT_EQ(firsts(Dtype::bf16, 8, results[0].rows), (Floats{17, 34, 0}));
  EXPECT_EQ(results[1].rows, Bytes(48, 0));  // +0, not -0
}

// Rank 0 fills the one row of rank 1. Rank 1's token is dropped there, by the first rank it names, and kept by rank 0.
TEST(Combine, AKeptRankAfterADroppedOne) {
  Case c = worked_case();
  c.row_capacity = 1;
  const Bytes row = row_of(Dtype::bf16, 8, 0);
  const RankInput first = {1, row, {2, -1}, {}, {0}}, second = {1, row, {3, 1}, {3, 5}, {0}};
  EXPECT_EQ(combined(c, {first, second}, {{7}, {9}}), (std::vector<Floats>{{9}, {7}}));
  const auto answers = dispatch_answer(c, {first, second});
  EXPECT_EQ(answers[1].destinations[0], (std::vector<Destination>{{1, -1}, {0, 0}}));
  const auto results = combine_answer(c, answers, {{row}, {row}});
  EXPECT_EQ(results[1].weights, (Floats{3, 5}));
}

TEST(Combine, MinusZeroAndCancellationGivePlusZero) {
  const auto out = combined(worked_case(), worked_inputs(), {{-0.0f, 5, -0.0f, 0}, {-0.0f, -5, 0, 0}});
  for (float v : out[0]) EXPECT_EQ(std::bit_cast<std::uint32_t>(v), 0u);
}

// Three ranks, one expert each. 1e8 + 1 = 1e8 in f32, so the order shows.
TEST(Combine, RanksAddAsTheIdsNameThem) {
  Case c;
  c.num_ranks = 3;
  c.hidden = 4;
  c.num_experts = 3;
  c.top_k = 4;
  c.max_tokens_per_rank = 1;
  c.dispatch_dtype = c.combine_dtype = Dtype::f32;
  const Bytes row = row_of(Dtype::f32, 4, 0);
  const auto sum = [&](std::vector<std::int64_t> ids) {
    return combined(c, {{1, row, std::move(ids), {}, {}}, {}, {}}, {{1e8f}, {1}, {-1e8f}})[0][0];
  };
  EXPECT_EQ(sum({0, 1, 2, -1}), 0.0f);
  EXPECT_EQ(sum({0, 2, 0, 1}), 1.0f);
  EXPECT_EQ(sum({-1, 2, 0, 1}), 1.0f);
  EXPECT_EQ(sum({2, 1, 0, 0}), 0.0f);
  EXPECT_EQ(sum({1, 0, 0, 2}), 0.0f);
}

TEST(Combine, EveryDtype) {
  const struct {
    Dtype dtype;
    float a, b, sum;
  } cases[] = {
      {Dtype::f16, 2048, 1, 2048},                                            // tie to even
      {Dtype::f16, 65504, 65504, kInf},                                       // overflow
      {Dtype::f32, 16777216, 1, 16777216},                                    // rounds in the sum
      {Dtype::f32, 3e38f, 3e38f, kInf},    {Dtype::fp8_e4m3, 448, 448, 448},  // saturates
      {Dtype::fp8_e4m3, 16, 1, 16},        {Dtype::fp8_e4m3fnuz, 240, -240, 0}, {Dtype::fp8_e4m3fnuz, -240, -1, -240},
      {Dtype::fp4_e2m1, 4, 4, 6},          {Dtype::fp4_e2m1, 2, .5f, 2},
  };
  for (const auto& t : cases) {
    Case c = worked_case();
    c.hidden = 32;
    c.dispatch_dtype = c.combine_dtype = t.dtype;
    std::vector<RankInput> inputs = worked_inputs();
    for (RankInput& in : inputs) in.rows.assign(3 * row_bytes_of(t.dtype, 32), 0);
    EXPECT_EQ(combined(c, inputs, {{t.a, 0, 0, 0}, {t.b, 0, 0, 0}})[0][0], t.sum) << name_of(t.dtype) << " " << t.a;
  }
}

TEST(Combine, NanIsTheCanonicalOne) {
  Case c = worked_case();
  const auto answers = dispatch_answer(c, worked_inputs());
  const Bytes r0(64, 0xff), r1(64, 0xff);  // NaN with another sign and payload
  const Bytes nan = combine_answer(c, answers, {{r0}, {r1}})[0].rows;
  EXPECT_EQ(nan[0], 0xff);
  EXPECT_EQ(nan[1], 0x7f);
}

TEST(Combine, SecondResultSumsRowsOfWeights) {
  const Case c = worked_case();
  const auto answers = dispatch_answer(c, worked_inputs());
  const Bytes rows(64, 0);
  // Dispatched weights: every rank that kept the token returns the whole row of k.
  const auto results = combine_answer(c, answers, {{rows}, {rows}});
  EXPECT_EQ(results[0].weights, (Floats{1, .5f, 4, 8, 1, .75f}));
  EXPECT_EQ(results[1].weights, (Floats{8, .125f, 1, 1.5f, 9, 3}));
  const Floats w0 = {1, 2, 3, 4, 5, 6, 7, 8}, w1 = {10, 20, 30, 40, 50, 60, 70, 80};
  const auto given = combine_answer(c, answers, {{rows, w0}, {rows, w1}});
  EXPECT_EQ(given[0].weights, (Floats{11, 22, 33, 44, 5, 6}));
  EXPECT_EQ(given[1].weights, (Floats{50, 60, 70, 80, 7, 8}));
}

TEST(Combine, ExpertMajorAppliesWeights) {
  Case c = worked_case();
  c.layout = Layout::expert_major;
  c.expert_capacity = 3;
  // Rows of rank 0: (0,0) w .5, (1,2) w 3, -, (0,1) w 4, (0,2) w 1.75, -. Rank 1: (0,0) w .25, (1,0) w .125, -,
  // (0,1) w 2, (1,1) w 2.5, -. Padding holds NaN, which must not be read.
  const auto out = combined(c, worked_inputs(), {{2, 4, kNan, 8, 16, kNan}, {32, 64, kNan, 128, 256, kNan}});
  EXPECT_EQ(out[0], (Floats{1 + 8, 256 + 32, 28}));
  EXPECT_EQ(out[1], (Floats{8, 640, 12}));
}

TEST(Combine, ContiguousAppliesWeights) {
  Case c = worked_case();
  c.layout = Layout::contiguous;
  c.expert_capacity = 3;  // (0,2) of expert 1 is dropped by the expert capacity
  const auto out = combined(c, worked_inputs(), {{2, 4, 8}, {32, 64, 128}});
  EXPECT_EQ(out[0], (Floats{1 + 8, 256 + 32, 0}));
  EXPECT_EQ(out[1], (Floats{8, 0, 12}));
}

// One token, one rank, two experts: products and sums are rounded one by one, in the order of the ids.
TEST(Combine, NoFusedMultiplyAdd) {
  Case c;
  c.hidden = 4;
  c.num_experts = 2;
  c.top_k = 2;
  c.max_tokens_per_rank = 1;
  c.layout = Layout::expert_major;
  c.dispatch_dtype = c.combine_dtype = Dtype::f32;
  const float a = 1 + 0x1p-12f;  // a * a = 1 + 2^-11 + 2^-24, in f32 1 + 2^-11
  const RankInput in = {1, row_of(Dtype::f32, 4, 0), {0, 1}, {1, a}, {}};
  EXPECT_EQ(combined(c, {in}, {{-(1 + 0x1p-11f), a}})[0][0], 0.0f);
}

TEST(Combine, OwnerRoundsToTheRowsTypeBeforeTheWire) {
  Case c = worked_case();
  c.layout = Layout::expert_major;
  c.expert_capacity = 3;
  std::vector<RankInput> inputs = worked_inputs();
  inputs[0].ids = {0, 1, 0, 2, 1, 1};  // (0,0) has both experts of rank 0
  inputs[0].weights = {1, 1, 1, 1, 1, 1};
  // 1 + 2^-8 rounds to 1 at the owner. At home nothing remains to be rounded.
  // Token (0,1): rank 0 sends 1, rank 1 sends 2^-8, the home rank rounds 1 + 2^-8 to 1.
  const auto out = combined(c, inputs, {{1, 1, 0, 0x1p-8f, 0, 0}, {0x1p-8f, 0, 0, 0, 0, 0}});
  EXPECT_EQ(out[0], (Floats{1, 1, 0}));
  // An owner rounds 1 + 3 * 2^-9 up to 1 + 2^-7; less 2^-9 from the other rank this is 1 + 3 * 2^-9 again, and rises to
  // 1 + 2^-7. Without the owner's rounding 1 + 2^-8 would remain, a tie, and fall to 1.
  inputs[0].ids = {0, 2, -1, -1, -1, -1};
  inputs[0].weights = {1 + 3 * 0x1p-9f, -0x1p-9f, 1, 1, 1, 1};
  EXPECT_EQ(combined(c, inputs, {{1, 0, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0}})[0][0], 1 + 0x1p-7f);
}

TEST(Combine, RepeatedIdIsOneProduct) {
  Case c;
  c.hidden = 4;
  c.num_experts = 2;
  c.top_k = 3;
  c.max_tokens_per_rank = 1;
  c.layout = Layout::expert_major;
  c.dispatch_dtype = c.combine_dtype = Dtype::f32;
  const RankInput in = {1, row_of(Dtype::f32, 4, 0), {1, 0, 1}, {16777216, 1, 1}, {}};
  // (2^24 + 1) * 1 = 2^24 at the first place of expert 1, then 1 * -2^24, so 0. Apart: 2^24 - 2^24 + 1 = 1.
  EXPECT_EQ(combined(c, {in}, {{-16777216, 1}})[0][0], 0.0f);
}

TEST(CombineQuant, DirectCast) {
  const Floats values = {1, 1.0625f, 1.1875f, 500, -kInf, 0x1p-10f, -0.0f};
  const Floats seen = through_wire(CombineQuant::fp8_direct_cast, Dtype::bf16, values);
  EXPECT_EQ(seen, (Floats{1, 1, 1.25f, 448, -448, 0, 0}));
  EXPECT_TRUE(std::isnan(through_wire(CombineQuant::fp8_direct_cast, Dtype::f16, {kNan})[0]));
  // The own rank's row is rounded too: token (0,2) goes to rank 0 only.
  Case c = worked_case();
  c.combine_quant = CombineQuant::fp8_direct_cast;
  EXPECT_EQ(combined(c, worked_inputs(), {{17, 2, 1.0625f, 0}, {17, 32, 64, 128}})[0], (Floats{32, 34, 1}));
}

TEST(CombineQuant, Block128Exponent) {
  EXPECT_EQ(block_exponent(Floats{448}), 0);
  EXPECT_EQ(block_exponent(Floats{-448, 1}), 0);
  EXPECT_EQ(block_exponent(Floats{448.5f}), 1);
  EXPECT_EQ(block_exponent(Floats{224}), -1);
  EXPECT_EQ(block_exponent(Floats{224.5f}), 0);
  EXPECT_EQ(block_exponent(Floats{1}), -8);     // 448 / 256 = 1.75 >= 1, 448 / 512 < 1
  EXPECT_EQ(block_exponent(Floats{65504}), 8);  // 448 * 2^7 = 57344 < 65504
  EXPECT_EQ(block_exponent(Floats{0x1.fep127f}), 120);
  EXPECT_EQ(block_exponent(Floats{0x1p-133f}), -127);  // the least there is
  EXPECT_EQ(block_exponent(Floats{0, -0.0f}), 0);
  EXPECT_EQ(block_exponent(Floats{kInf, kNan, 0}), 0);
  EXPECT_EQ(block_exponent(Floats{kInf, -900, kNan}), 2);  // 448 * 2 = 896 < 900
}

TEST(CombineQuant, Block128) {
  // e = 1: 900 / 2 = 450 would do for 448 * 2 = 896 only, so e = 2 and 900 / 4 = 225 rounds to 224: 896.
  EXPECT_EQ(through_wire(CombineQuant::fp8_blockwise, Dtype::bf16, {900, 2, -3.3f}), (Floats{896, 2, -3.25f}));
  // Infinities saturate at 448 * 2^e, also where nothing finite is there (e = 0). NaN stays.
  const Floats odd = through_wire(CombineQuant::fp8_blockwise, Dtype::bf16, {kInf, -900, kNan, -kInf});
  EXPECT_EQ((Floats{odd[0], odd[1], odd[3]}), (Floats{1792, -896, -1792}));
  EXPECT_TRUE(std::isnan(odd[2]));
  EXPECT_EQ(through_wire(CombineQuant::fp8_blockwise, Dtype::bf16, {kInf, 0}), (Floats{448, 0}));
  // Subnormals: e stops at -127, where the least step is 2^-9 * 2^-127.
  EXPECT_EQ(through_wire(CombineQuant::fp8_blockwise, Dtype::bf16, {0x1p-133f, 0x1p-132f}),
            (Floats{0x1p-133f, 0x1p-132f}));
  // The largest bf16 rounds to 256 * 2^120, which no f32 holds.
  EXPECT_EQ(through_wire(CombineQuant::fp8_blockwise, Dtype::bf16, {0x1.fep127f}), (Floats{kInf}));
  EXPECT_EQ(through_wire(CombineQuant::fp8_blockwise, Dtype::bf16, Floats(5, 0.0f)), Floats(5, 0.0f));
}

TEST(CombineQuant, Block128LastBlockIsShort) {
  Floats values(136, 1.0f);
  values[5] = 1000;           // e = 2 for the first 128: 1000 / 4 = 250 rounds to 256, and 1 stays
  values[6] = 0.0017f;        // 0.0017 / 4 is below half of 2^-9
  values[130] = 1 + 0x1p-5f;  // e = -8 for the last 8: steps of 1/8
  values[135] = 0.0017f;      // 0.0017 * 256 = 0.4352 rounds to 0.4375
  const Floats seen = through_wire(CombineQuant::fp8_blockwise, Dtype::bf16, values);
  EXPECT_EQ(seen[5], 1024);
  EXPECT_EQ(seen[6], 0);
  EXPECT_EQ(seen[127], 1);
  EXPECT_EQ(seen[130], 1);
  EXPECT_EQ(seen[135], 0.4375f / 256);
}

TEST(CombineQuant, ExpertSumsGoStraightToTheWire) {
  Case c = worked_case();
  c.layout = Layout::expert_major;
  c.expert_capacity = 3;
  c.combine_quant = CombineQuant::fp8_direct_cast;
  std::vector<RankInput> inputs = worked_inputs();
  inputs[0].ids = {0, 1, -1, -1, -1, -1};
  inputs[0].weights = {1, 1, 1, 1, 1, 1};
  // 1.0625 + 2^-9: the f32 sum is past the tie and rises to 1.125; by way of bf16 it would fall to 1.0625 and then to 1.
  EXPECT_EQ(combined(c, inputs, {{1.0625f, 0, 0, 0x1p-9f, 0, 0}, {0, 0, 0, 0, 0, 0}})[0][0], 1.125f);
}

TEST(Fused, SumsTheKeptIds) {
  Case c = worked_case();
  const auto answers = dispatch_answer(c, worked_inputs());
  // Combine slots t * 2 + j. Rank 1: id 0 of token 0 is a hole, id 0 of token 2 does not exist: their rows are not read.
  const Bytes l0 = rows_of(Dtype::bf16, 8, {1, 2, 4, 8, 16, 32}),
              l1 = rows_of(Dtype::bf16, 8, {kNan, 2, 4, 8, kNan, 32});
  auto results = fused_answer(c, answers, {l0, l1});
  EXPECT_EQ(firsts(Dtype::bf16, 8, results[0].rows), (Floats{3, 12, 48}));
  EXPECT_EQ(firsts(Dtype::bf16, 8, results[1].rows), (Floats{2, 12, 32}));
  EXPECT_EQ(results[0].weights, (Floats{1, .5f, 4, 8, 1, .75f}));  // dispatched weights, once per rank
  results = fused_answer(c, answers, {l0, l1}, 2);
  EXPECT_EQ(firsts(Dtype::bf16, 8, results[0].rows), (Floats{3, 12}));
  results = fused_answer(c, answers, {l0, l1}, 4);
  EXPECT_EQ(firsts(Dtype::bf16, 8, results[0].rows), (Floats{3, 12, 48, 0}));

  c.row_capacity = 2;  // (0,2), (1,0), (1,1), (1,2) are dropped
  results = fused_answer(c, dispatch_answer(c, worked_inputs()), {l0, l1});
  EXPECT_EQ(firsts(Dtype::bf16, 8, results[0].rows), (Floats{3, 12, 0}));
  EXPECT_EQ(firsts(Dtype::bf16, 8, results[1].rows), (Floats{0, 0, 0}));
}

TEST(Fused, AddsInIdOrderNotByRank) {
  Case c;
  c.num_ranks = 2;
  c.hidden = 4;
  c.num_experts = 2;
  c.top_k = 3;
  c.max_tokens_per_rank = 1;
  c.dispatch_dtype = c.combine_dtype = Dtype::f32;
  const RankInput in = {1, row_of(Dtype::f32, 4, 0), {0, 1, 0}, {}, {}};
  const Bytes landing = rows_of(Dtype::f32, 4, {1e8f, 1, -1e8f});
  EXPECT_EQ(firsts(Dtype::f32, 4, fused_answer(c, dispatch_answer(c, {in, {}}), {landing, {}})[0].rows), (Floats{0}));
}

}  // namespace
}  // namespace crossdock::oracle
