// SPDX-License-Identifier: Apache-2.0
// Random shapes, routings and options against the oracle, and random scripts of calls. A failure prints the case as a line
// that runs it again, see support/test_case.hpp.
#include <gtest/gtest.h>

#include <algorithm>

#include "fuzz/fuzz.hpp"
#include "support/harness.hpp"
#include "support/instances.hpp"
#include "support/script.hpp"

namespace crossdock::testing {
namespace {

Config random_config(Draw& draw, int num_ranks) {
  Config c;
  const int blocks = draw.one_in(4) ? 1 + draw.below(40) : 1 + draw.below(8);
  c.hidden = (draw.one_in(3) ? 32 : draw.one_in(2) ? 16 : 8) * blocks;
  c.num_experts = 1 + draw.below(draw.one_in(4) ? 300 : 40);
  c.top_k = 1 + draw.below(draw.one_in(5) ? kMaxTopk : 8);
  c.max_tokens_per_rank = 1 + draw.below(draw.one_in(6) ? 150 : 20);
  c.dispatch_dtype = static_cast<Dtype>(draw.below(6));
  c.combine_dtype = static_cast<Dtype>(draw.below(6));
  c.combine_quant = static_cast<CombineQuant>(draw.one_in(2) ? 0 : draw.below(3));
  if (is_left_out(c.combine_dtype, c.combine_quant)) c.combine_dtype = Dtype::bf16;
  c.scale_bytes = draw.one_in(2) ? 0 : draw.below(70);
  c.layout = static_cast<Layout>(draw.below(3));
  const std::int64_t worst = std::int64_t{num_ranks} * c.max_tokens_per_rank;
  if (draw.one_in(3)) c.row_capacity = num_ranks + draw.below(worst - num_ranks + 1);
  if (c.layout != Layout::token_major && draw.one_in(3)) c.expert_capacity = 1 + draw.below(30);
  if (c.layout == Layout::contiguous) {
    constexpr int kAlignments[] = {1, 8, 16, 32, 128};
    c.alignment = draw.of(kAlignments);
    c.zero_padding = draw.one_in(2);
  }
  c.overflow = static_cast<Overflow>(draw.below(2));
  c.zero_copy = draw.one_in(3);
  c.fused = draw.one_in(5);
  c.combine_topk_weights = draw.one_in(2);
  c.max_in_flight = 1 + draw.below(3);
  c.max_kept_plans = draw.below(3);
  return c;
}

TestCase random_case(std::uint64_t seed) {
  Draw draw(seed);
  TestCase test;
  test.num_ranks = 1 + draw.below(kMaxRanks);
  test.config = random_config(draw, test.num_ranks);
  test.recipe.seed = seed;
  test.recipe.routing = static_cast<oracle::Routing>(draw.below(static_cast<int>(std::size(oracle::kRoutings))));
  test.recipe.fill = static_cast<oracle::Fill>(draw.below(4));
  test.recipe.weights = !draw.one_in(4);
  test.recipe.weight_fill = static_cast<oracle::Fill>(draw.below(4));
  if (draw.one_in(2)) test.recipe.tokens = oracle::ragged_tokens(test.num_ranks, test.config.max_tokens_per_rank, seed);
  test.topk_ids_are_int64 = draw.one_in(2) || test.recipe.routing == oracle::Routing::bad64;
  test.device_tokens = draw.one_in(4);
  test.combine_topk_weights = test.config.combine_topk_weights && draw.one_in(2);
  test.caller_weights = test.combine_topk_weights && !test.config.fused && draw.one_in(2);
  test.in_place = test.config.layout == Layout::token_major && !test.config.zero_copy && !test.config.fused &&
                  bits_of(test.config.dispatch_dtype) == bits_of(test.config.combine_dtype) && draw.one_in(2);
  test.rounds = 1 + draw.below(3);
  if (draw.one_in(3)) test.config.num_blocks = 2;  // on the CPU more than may wait: calls are made in steps
  if (draw.one_in(12) && test.num_ranks <= 4) {
    constexpr int kWidths[] = {32, 64};
    test.executor.width = draw.of(kWidths);
    test.executor.num_blocks = 1 + draw.below(4);
    if (draw.one_in(2)) test.executor.num_waiting_blocks = 1 + draw.below(test.executor.num_blocks);
    test.executor.num_threads = test.executor.width * (1 + draw.below(3));
    test.executor.splits_per_row = 1 + draw.below(4);
    test.executor.push = draw.one_in(2);
    test.executor.seed = draw.word() | 1;
  }
  return test;
}

TEST(Fuzz, ShapesAndRoutings) {
  FuzzRun run;
  int refused = 0;
  while (run.more()) {
    const TestCase test = random_case(run.next_seed());
    if (const Support support = supports(test.config, test.num_ranks); !support) {
      ASSERT_NE(support.reason, "");
      ++refused;
      continue;
    }
    ASSERT_EQ(run_case(test), "");
  }
  std::printf("%d of them refused by supports()\n", refused);
}

TEST(Fuzz, ScriptsOfCalls) {
  FuzzRun run;
  while (run.more()) {
    const std::uint64_t seed = run.next_seed();
    TestCase test = random_case(seed);
    test.config.max_tokens_per_rank = std::min(test.config.max_tokens_per_rank, 12);
    test.config.row_capacity = 0;
    test.recipe.tokens.clear();
    test.rounds = 1;
    test.in_place = false;
    if (test.config.fused) test.config.zero_copy = false;
    if (!supports(test.config, test.num_ranks)) continue;
    ASSERT_EQ(run_script(test, random_script(test, seed, 25), seed % 2), "");
  }
}

}  // namespace
}  // namespace crossdock::testing
