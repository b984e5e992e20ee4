// SPDX-License-Identifier: Apache-2.0
// The same kernel bodies with 32 and 64 real lanes, several warps and blocks, and in random orders. Whatever the number of
// blocks, the width of a warp, the splits_per_row of a row and the order: the answer is the oracle's, bit for bit.
#include <gtest/gtest.h>

#include "backend/matrix.hpp"
#include "platform/cpu/sanitizers.hpp"
#include "support/instances.hpp"

namespace crossdock::testing {
namespace {

constexpr bool kSlow = XD_ASAN || XD_TSAN;

/// A different geometry and order for each n.
Executor executor_of(int width, int n) {
  constexpr int kBlocks[] = {3, 1, 5}, kWarps[] = {1, 2, 4, 3}, kPieces[] = {1, 2, 3, 7};
  Executor e;
  e.width = width;
  e.num_blocks = kBlocks[n % 3];
  e.num_threads = width * kWarps[n % 4];
  e.splits_per_row = kPieces[n / 2 % 4];
  e.num_waiting_blocks = n % 4 < 2 ? 0 : e.num_blocks == 1 ? 1 : e.num_blocks - 2;  // every other case in steps
  e.push = n % 2 != 0;
  e.seed = n % 5 == 0 ? 0 : static_cast<std::uint64_t>(n);
  return e;
}

/// The cells that run, one variant each. Under sanitizers not those of two dtypes, and expert_major with 32 lanes only.
Summary walk_on_fibers(int width) {
  std::vector<Cell> cells;
  for (const Cell& cell : all_cells()) {
    const bool mixed = cell.dispatch_dtype != cell.combine_dtype;
    const bool of_this_width = !kSlow || cell.layout != Layout::expert_major || width == 32;
    if (refusal_of(cell).empty() && !is_left_out(cell) && (!kSlow || !mixed) && of_this_width) cells.push_back(cell);
  }
  return walk(cells, [&](const Cell& cell, int idx) {
    TestCase test = case_of(cell, (idx + width / 32) % kNumVariants, 3);
    test.executor = executor_of(width, idx);
    return std::vector<TestCase>{test};
  });
}

TEST(Fibers, EveryCellWith32Lanes) { EXPECT_EQ(walk_on_fibers(32).failures, ""); }
TEST(Fibers, EveryCellWith64Lanes) { EXPECT_EQ(walk_on_fibers(64).failures, ""); }

/// More tokens than a block places at once, and shares that begin inside of them.
TestCase long_case() {
  TestCase test = small_case(2);
  test.config.hidden = 32;
  test.config.num_experts = 10;
  test.config.top_k = 4;
  test.config.max_tokens_per_rank = kSlow ? 70 : 200;
  test.config.scale_bytes = 16;
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  test.recipe.routing = oracle::Routing::mixed;
  test.recipe.tokens = {test.config.max_tokens_per_rank, test.config.max_tokens_per_rank - 3};
  return test;
}

TEST(Fibers, ChunksOfTokensAndSharesOfBlocks) {
  for (const int width : {32, 64})
    for (const int blocks : {1, 2, 7})
      for (const int splits_per_row : {1, 3, 32}) {
        TestCase test = long_case();
        test.config.layout = static_cast<Layout>((blocks + splits_per_row) % 3);
        test.executor = {.width = width,
                         .num_blocks = blocks,
                         .num_threads = width * 2,
                         .splits_per_row = splits_per_row,
                         .seed = 5};
        if (!kSlow || blocks != 7) {
          ASSERT_EQ(run_case(test), "");
        }
        if (blocks == 1) continue;
        test.executor.num_waiting_blocks = blocks / 2;
        test.rounds = 2;
        ASSERT_EQ(run_case(test), "");
      }
}

TEST(Fibers, MoreLocalExpertsThanABlockHandlesAtOnce) {
  TestCase test = long_case();
  test.config.num_experts = 1202;  // 601 on each rank
  test.config.top_k = 8;
  test.config.max_tokens_per_rank = 70;
  test.recipe.tokens = {70, 9};
  for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
    test.config.layout = layout;
    test.config.expert_capacity = layout == Layout::expert_major ? 3 : 0;
    test.executor = {.width = 32, .num_blocks = 3, .num_threads = 64, .seed = 8};
    ASSERT_EQ(run_case(test), "");
  }
}

/// More received rows than a block counts itself: blocks tell each other what they have counted.
TEST(Fibers, BlocksShareTheCountsOfManyRows) {
  TestCase test = long_case();
  test.config.max_tokens_per_rank = 450;
  test.recipe.tokens = {450, 440};
  test.rounds = 2;
  for (const Layout layout : {Layout::expert_major, Layout::contiguous})
    for (const int blocks : {1, 5}) {
      test.config.layout = layout;
      test.executor = {.width = 32, .num_blocks = blocks, .num_threads = 64, .splits_per_row = 2, .seed = 9};
      ASSERT_EQ(run_case(test), "");
      test.executor.num_waiting_blocks = (blocks + 1) / 2;
      ASSERT_EQ(run_case(test), "");
    }
}

TEST(Fibers, RandomOrdersGiveOneAnswer) {
  for (std::uint64_t seed = 1; seed <= (kSlow ? 6 : 40); ++seed) {
    TestCase test = case_of({Dtype::bf16, Dtype::bf16, static_cast<Layout>(seed % 3),
                             seed % 2 ? Path::staged : Path::zero_copy, CombineQuant::none},
                            static_cast<int>(seed % kNumVariants), 3);
    test.executor = executor_of(seed % 2 ? 64 : 32, static_cast<int>(seed));
    test.executor.seed = seed * 7919;
    test.rounds = 3;  // epochs, books and tails of the round before
    ASSERT_EQ(run_case(test), "");
  }
}

TEST(Fibers, PushAndPullGiveTheSameBits) {
  for (const bool push : {false, true})
    for (const Layout layout : {Layout::token_major, Layout::contiguous}) {
      TestCase test = small_case(3);
      test.config.layout = layout;
      test.config.zero_copy = true;
      test.config.combine_topk_weights = test.combine_topk_weights = layout == Layout::contiguous;
      test.recipe.fill = oracle::Fill::edges;
      test.executor = {.width = 32, .num_blocks = 3, .push = push, .seed = 11};
      test.rounds = 3;
      ASSERT_EQ(run_case(test), "");
    }
}

/// Blocks of 128 elements whose exponent the lanes of a warp agree on; hidden sizes whose last block is short.
TEST(Fibers, BlockExponentsAcrossLanes) {
  for (const int hidden : {16, 112, 128, 144, 1040})
    for (const int width : {32, 64})
      for (const Layout layout : {Layout::token_major, Layout::expert_major}) {
        TestCase test = small_case(2);
        test.config.hidden = hidden;
        test.config.combine_quant = CombineQuant::fp8_blockwise;
        test.config.combine_dtype =
            width == 32 || is_left_out(Dtype::f16, CombineQuant::fp8_blockwise) ? Dtype::bf16 : Dtype::f16;
        test.config.layout = layout;
        test.recipe.fill = oracle::Fill::edges;
        test.executor = {
            .width = width, .num_blocks = 2, .num_threads = 128, .splits_per_row = 1 + hidden % 3, .seed = 3};
        ASSERT_EQ(run_case(test), "");
      }
}

}  // namespace
}  // namespace crossdock::testing
