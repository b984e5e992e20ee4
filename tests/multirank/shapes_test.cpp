// SPDX-License-Identifier: Apache-2.0
// All numbers of ranks, ids per token, hidden sizes and tokens, also those that no table has heard of.
#include <gtest/gtest.h>

#include "platform/cpu/sanitizers.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

TEST(Shapes, OneToEightRanksAndOneTo64Ids) {
  constexpr int kTopk[] = {1, 2, 4, 6, 8, 22, 64};
  int n = 0;
  for (int ranks = 1; ranks <= kMaxRanks; ++ranks)
    for (const int k : kTopk) {
      TestCase test = small_case(ranks);
      test.config.hidden = 16;
      test.config.num_experts = ranks * 9 - n % 3;  // ranks that have fewer experts than others
      test.config.top_k = k;
      test.config.max_tokens_per_rank = 9;
      test.config.layout = static_cast<Layout>(n % 3);
      test.config.zero_copy = n % 2;
      test.config.combine_topk_weights = test.combine_topk_weights = n % 5 == 0;
      test.recipe.routing = oracle::Routing::mixed;
      test.recipe.seed = static_cast<std::uint64_t>(++n);
      test.recipe.tokens = oracle::ragged_tokens(ranks, 9, test.recipe.seed);
      test.rounds = 2;
      ASSERT_EQ(run_case(test), "");
    }
}

TEST(Shapes, HiddenSizesOfAnyMultipleOf16Bytes) {
  int n = 0;
  for (const int hidden : {2880, 5120, 6144, 7168, 16, 8, 1000, 24})
    for (const Dtype dtype : {Dtype::bf16, Dtype::f32, Dtype::fp8_e4m3, Dtype::fp4_e2m1}) {
      TestCase test = small_case(2 + n % 3);
      test.config.hidden = hidden;
      test.config.dispatch_dtype = dtype;
      test.config.combine_quant = static_cast<CombineQuant>(n % 3);
      test.config.layout = static_cast<Layout>(n++ / 3 % 3);
      if (static_cast<std::int64_t>(hidden) * bits_of(dtype) % 128 != 0) continue;
      ASSERT_EQ(run_case(test), "");
    }
}

TEST(Shapes, RanksWithoutExperts) {
  for (const int experts : {1, 2, 9, 13})  // of 8 ranks: only the first; the first two; 5 of them; 7 of them
    for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
      TestCase test = small_case(8);
      test.config.num_experts = experts;
      test.config.layout = layout;
      test.config.hidden = 16;
      ASSERT_EQ(run_case(test), "");
    }
}

TEST(Shapes, NoTokensAnywhere) {
  for (const Path path : {Path::staged, Path::zero_copy, Path::fused}) {
    TestCase test = small_case(3);
    set_path(test.config, path);
    test.recipe.tokens = {0, 0, 0};
    test.rounds = 3;
    EXPECT_EQ(run_case(test), "");
    test.recipe.tokens = {0, 8, 0};
    EXPECT_EQ(run_case(test), "");
  }
}

/// Rounds in which every rank's T changes, so that tails of the round before must be cleaned.
TEST(Shapes, TokensChangeFromCallToCall) {
  for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
    TestCase test = small_case(4);
    test.config.layout = layout;
    if (layout == Layout::contiguous) test.config.alignment = 8, test.config.zero_padding = true;
    test.config.max_tokens_per_rank = 40;
    std::vector<TestCase> cases;
    std::vector<Answers> rounds;
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      test.recipe.seed = seed;
      test.recipe.routing = oracle::kRoutings[seed % std::size(oracle::kRoutings)];
      test.recipe.tokens = oracle::ragged_tokens(4, seed % 3 == 0 ? 3 : 40, seed);
      rounds.push_back(answers_of(test));
    }
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      for (const Answers& answers : rounds) rank.run(answers);
    });
    EXPECT_EQ(log.text(), "") << text_of(test);
  }
}

TEST(Shapes, OneTokenOneExpertOneRank) {
  TestCase test = small_case(1);
  test.config.num_experts = test.config.top_k = test.config.max_tokens_per_rank = 1;
  for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
    test.config.layout = layout;
    EXPECT_EQ(run_case(test), "");
  }
}

TEST(Shapes, ManyTokens) {
  TestCase test = small_case(3);
  test.config.hidden = 64;
  test.config.num_experts = 96;
  test.config.top_k = 8;
  test.config.max_tokens_per_rank = XD_ASAN || XD_TSAN ? 150 : 700;
  test.recipe.routing = oracle::Routing::zipf;
  EXPECT_EQ(run_case(test), "");
  test.config.layout = Layout::contiguous;
  test.config.alignment = 128;
  EXPECT_EQ(run_case(test), "");
}

TEST(Shapes, RowsInPlaceOfTheReceivedOnes) {
  TestCase test = small_case(3);
  test.in_place = true;
  test.rounds = 3;
  EXPECT_EQ(run_case(test), "");
  test.config.combine_quant = CombineQuant::fp8_blockwise;
  EXPECT_EQ(run_case(test), "");
}

/// combine_fused may be told another T than the plan's: tokens that the plan does not know come out as +0, also where an
/// earlier, longer plan had them.
TEST(Shapes, FusedTakesTheTokensOfTheCaller) {
  TestCase test = small_case(3);
  test.config.fused = true;
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  const Answers full = answers_of(test);
  test.recipe.tokens = {3, 0, 8};
  const Answers part = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    rank.run(full);
    for (const int tokens : {8, 5, 2, 0}) {
      Answers right = part;
      right.results =
          oracle::fused_answer(right.shape, right.received, {right.outputs.begin(), right.outputs.end()}, tokens);
      Round round(test, part, rank.rank());
      Received received = rank.exchange.dispatch(round.input());
      (void)round.run_experts(received);
      const Buffer rows(test.backend, 8 * 256, 0xee), weights(test.backend, 8 * 2 * 4, 0xee);
      rank.exchange.combine_fused(std::move(received), {rows.data(), weights.as<float>()}, tokens);
      check_result(test, right, rank.rank(), rows.data(), weights.as<float>(), log);
      std::uint8_t behind = 0;
      if (tokens < 8) copy_out(test.backend, &behind, rows.as<std::uint8_t>() + tokens * 256, 1);
      if (tokens < 8 && behind != 0xee) log.add("wrote past T = ", tokens);
    }
  });
  EXPECT_EQ(log.text(), "");
}

/// An exchange that can do fused and zero-copy does staged calls too.
TEST(Shapes, OneConfigForEveryPath) {
  TestCase test = small_case(3);
  test.config.fused = true;
  test.config.zero_copy = true;
  test.config.top_k = 4;
  TestCase staged = test, zero_copy = test, fused = test;
  staged.config.fused = staged.config.zero_copy = zero_copy.config.fused = fused.config.zero_copy = false;
  const Answers by_rank = answers_of(staged), by_id = answers_of(fused);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    for (int n = 0; n < 6; ++n) {
      const TestCase& now = n % 3 == 0 ? staged : n % 3 == 1 ? zero_copy : fused;
      const Answers& answers = n % 3 == 2 ? by_id : by_rank;
      Round round(now, answers, rank.rank());
      Received received = rank.exchange.dispatch(round.input());
      const CombineInput from = round.run_experts(targets_of(received, test));
      if (now.config.fused)
        rank.exchange.combine_fused(std::move(received), round.output());
      else
        rank.exchange.combine(std::move(received), from, round.output());
      round.check_output(log);
    }
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Shapes, TokenCountOnTheDevice) {
  TestCase test = small_case(3);
  test.device_tokens = true;
  for (const std::vector<int>& tokens : {std::vector<int>{0, 1, 8}, {8, 8, 8}, {0, 0, 0}, {5, 0, 2}}) {
    test.recipe.tokens = tokens;
    test.rounds = 2;
    EXPECT_EQ(run_case(test), "");
  }
}

/// Above M: clamped and reported (run_case checks the status), never followed.
TEST(Shapes, TokenCountOnTheDeviceIsClamped) {
  TestCase test = small_case(3);
  test.device_tokens = true;
  test.recipe.tokens = {9, 3, 1000};
  EXPECT_EQ(run_case(test), "");
  test.recipe.tokens = {3, 0, 3};
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    const std::int32_t asked = rank.rank() == 1 ? -5 : 3;
    DispatchInput input = round.input();
    const Buffer word(test.backend, sizeof asked);
    copy_in(test.backend, word.data(), &asked, sizeof asked);
    input.num_tokens_on_device = word.as<std::int32_t>();
    input.num_tokens = 8;  // the word on the device wins
    Received received = rank.exchange.dispatch(input);
    round.check(view_of(received), rank.log);
    const Status status = rank.exchange.poll();
    if (rank.rank() != 1) return;
    if (status.code != StatusCode::usage || status.fatal) rank.log.add("T = -5 is not reported");
    for (const char* word : {"rank 1", "T = -5", "[0, 8]", "max_tokens_per_rank"})
      if (status.text.find(word) == std::string::npos) rank.log.add(word, " missing in: ", status.text);
  });
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace crossdock::testing
