// SPDX-License-Identifier: Apache-2.0
// The harness itself: cases as text and back, and that it notices what is wrong.
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>

#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

TEST(Case, TextReadsBack) {
  EXPECT_EQ(text_of(small_case()), "");
  TestCase test = small_case(5);
  test.config.layout = Layout::contiguous;
  test.config.alignment = 32;
  test.config.dispatch_dtype = Dtype::fp4_e2m1;
  test.config.combine_quant = CombineQuant::fp8_blockwise;
  test.config.overflow = Overflow::error;
  test.config.zero_padding = true;
  test.recipe.routing = oracle::Routing::zipf;
  test.recipe.fill = oracle::Fill::edges;
  test.recipe.seed = ~std::uint64_t{0};
  test.recipe.tokens = {3, 0, 8};
  test.executor = {.width = 64, .num_blocks = 3, .seed = 9};
  const std::string text = text_of(test);
  EXPECT_EQ(text,
            "ranks=5 dispatch=fp4_e2m1 combine_quant=fp8_blockwise layout=contiguous alignment=32 zero_padding=1 "
            "overflow=error "
            "routing=zipf fill=edges seed=18446744073709551615 T=3,0,8 width=64 blocks=3 order=9");
  EXPECT_EQ(text_of(case_of(text)), text);
  EXPECT_TRUE(case_of(text).config == test.config);
  EXPECT_EQ(case_of(text).recipe.seed, test.recipe.seed);
  EXPECT_THROW(case_of("rank=5"), std::invalid_argument);
  EXPECT_THROW(case_of("combine_quant=fp9"), std::invalid_argument);
  EXPECT_THROW(case_of("k=two"), std::invalid_argument);
}

/// Runs the case that a failed test has printed, CROSSDOCK_TEST_CASE; without one a small case.
TEST(Case, FromText) {
  const char* text = std::getenv("CROSSDOCK_TEST_CASE");
  EXPECT_EQ(run_case(text ? case_of(text) : small_case()), "");
}

/// A comparison that cannot fail is none: every part of the answer is spoiled once.
TEST(Case, EveryDifferenceIsNoticed) {
  TestCase test = small_case();
  test.config.layout = Layout::contiguous;
  test.config.scale_bytes = 3;
  test.config.alignment = 8;
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  test.config.zero_padding = true;
  const Answers right = answers_of(test);
  using Spoil = void (*)(Answers&);
  const std::pair<const char*, Spoil> spoils[] = {
      {"must be rank", [](Answers& a) { a.received[0].rows[5] ^= 1; }},
      {"scales[", [](Answers& a) { a.received[0].scales[5] ^= 1; }},
      {"ids[", [](Answers& a) { a.received[0].ids.back() = 0; }},
      {"weights[", [](Answers& a) { a.received[0].weights[1] = -0.0f; }},
      {"sources[", [](Answers& a) { a.received[0].sources.back().token = 0; }},
      {"num_rows", [](Answers& a) { ++a.received[0].num_rows, a.received[0].rows.resize(4096); }},
      {"rows_needed", [](Answers& a) { ++a.received[0].rows_needed; }},
      {"rows_per_source[1]", [](Answers& a) { ++a.received[0].rows_per_source[1]; }},
      {"dropped_per_source[1]", [](Answers& a) { ++a.received[0].dropped_per_source[1]; }},
      {"num_tokens", [](Answers& a) { ++a.received[0].num_tokens; }},
      {"bad_ids", [](Answers& a) { ++a.received[0].bad_ids; }},
      {"expert_counts[", [](Answers& a) { ++a.received[0].expert_counts[1]; }},
      {"expert_offsets[", [](Answers& a) { ++a.received[0].experts.offsets[1]; }},
      {"expert sources[", [](Answers& a) { a.received[0].experts.sources[0].token = 7; }},
      {"expert weights[", [](Answers& a) { a.received[0].experts.weights[0] += 1; }},
      {"expert_rows_needed", [](Answers& a) { ++a.received[0].experts.rows_needed; }},
      {"is not zero", [](Answers& a) { a.received[0].experts.slots[0] = -1; }},
      {"expert row 0", [](Answers& a) { a.received[0].experts.slots[0] = 1; }},
      {"result[", [](Answers& a) { a.results[0].rows.back() ^= 0x80; }},
      {"result weights[", [](Answers& a) { a.results[0].weights.back() *= 2; }},
  };
  for (const auto& [word, spoil] : spoils) {
    Answers wrong = right;
    spoil(wrong);
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      Round round(test, right, rank.rank());
      Received received = rank.exchange.dispatch(round.input());
      const View view = view_of(received);
      rank.combine(std::move(received), round.run_experts(received), round.output());
      check_received(test, wrong, rank.rank(), view, rank.log);
      check_result(test, wrong, rank.rank(), round.output().rows, round.output().topk_weights, rank.log);
    });
    EXPECT_NE(log.text().find(word), std::string::npos) << word << " in: " << log.text();
  }
}

}  // namespace
}  // namespace crossdock::testing
