// SPDX-License-Identifier: Apache-2.0
// Receive capacities below the worst case: which rows are dropped, who learns of it, and that the group goes on.
#include <gtest/gtest.h>

#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

TEST(Capacity, RowsBeyondItAreDroppedInTheOrderOfTheContract) {
  for (const int ranks : {1, 2, 5})
    for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
      TestCase test = small_case(ranks);
      test.config.layout = layout;
      test.config.combine_topk_weights = test.combine_topk_weights = true;
      test.rounds = 2;
      for (const std::int64_t capacity : {ranks, ranks + 1, ranks * 3, ranks * 8 - 1, ranks * 8}) {
        test.config.row_capacity = capacity;
        for (const oracle::Routing routing : {oracle::Routing::all_to_one, oracle::Routing::random}) {
          test.recipe.routing = routing;
          ASSERT_EQ(run_case(test), "");
        }
      }
    }
}

TEST(Capacity, EveryPathAndWireMissesTheSameRows) {
  for (const Path path : {Path::staged, Path::zero_copy, Path::fused})
    for (const CombineQuant combine_quant :
         {CombineQuant::none, CombineQuant::fp8_direct_cast, CombineQuant::fp8_blockwise}) {
      if (path != Path::staged && combine_quant != CombineQuant::none) continue;
      TestCase test = small_case(3);
      test.config.row_capacity = 5;
      test.config.top_k = 4;
      test.config.combine_quant = combine_quant;
      set_path(test.config, path);
      test.recipe.routing = oracle::Routing::soft_hot;
      test.rounds = 2;
      EXPECT_EQ(run_case(test), "");
    }
}

TEST(Capacity, RowsPerExpertAndRowsOfAllExperts) {
  for (const Layout layout : {Layout::expert_major, Layout::contiguous})
    for (const int capacity : {1, 2, 3, 7, 8, 9, 16, 23})
      for (const int alignment : {1, 8, 16}) {
        if (layout == Layout::expert_major && alignment > 1) continue;
        TestCase test = small_case(3);
        test.config.layout = layout;
        test.config.expert_capacity = capacity;
        test.config.alignment = alignment;
        test.config.top_k = 5;
        test.config.zero_padding = alignment > 1;
        test.config.row_capacity = capacity % 2 ? 0 : 11;  // both capacities at once
        test.recipe.routing = oracle::Routing::zipf;
        test.rounds = 2;
        ASSERT_EQ(run_case(test), "");
      }
}

/// What a rank sees under Overflow::error; `words` must stand in every text.
void check_error_mode(TestCase test, int victim, const std::vector<std::string>& words) {
  test.config.overflow = Overflow::error;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    const auto has_words = [&](const std::string& text) {
      for (const std::string& word : words)
        if (text.find(word) == std::string::npos) rank.log.add("`", word, "` missing in: ", text);
    };
    for (int again = 0; again < 2; ++again) {
      Round round(test, answers, rank.rank());
      Received received = rank.exchange.dispatch(round.input());
      round.check(view_of(received), rank.log);  // the same rows as under `drop`
      const Status status = rank.exchange.poll();
      const CombineInput from = round.run_experts(received);
      if (rank.rank() == victim) {
        if (status.code != StatusCode::capacity || status.fatal) rank.log.add("poll says ", name_of(status.code));
        has_words(status.text);
        for (int tries = 0; tries < 2; ++tries) {  // refused until cleared; the Received is not consumed
          try {
            rank.combine(std::move(received), from, round.output());
            rank.log.add("combine was not refused");
          } catch (const CapacityError& error) {
            has_words(error.what());
          }
        }
        try {
          (void)rank.exchange.dispatch(round.input());
          rank.log.add("dispatch was not refused");
        } catch (const CapacityError& error) {
          has_words(error.what());
        }
        rank.exchange.clear_status();
      } else if (status.code != StatusCode::ok) {
        rank.log.add("rank ", rank.rank(), " is not the one that overflowed: ", status.text);
      }
      rank.combine(std::move(received), from, round.output());
      round.check_output(rank.log);
    }
  });
  EXPECT_EQ(log.text(), "") << text_of(test);
}

TEST(Capacity, ErrorModeRaisesWithTheCapacityThatWouldHaveSufficed) {
  TestCase test = small_case(3);
  test.recipe.routing = oracle::Routing::hot_spot;  // experts 0 and 1, on rank 0: 24 rows
  test.config.row_capacity = 17;
  check_error_mode(test, 0, {"rank 0", "row_capacity = 17", "24 would have sufficed", "clear the status"});
}

TEST(Capacity, ErrorModeOfExpertRows) {
  TestCase test = small_case(3);
  test.recipe.routing = oracle::Routing::hot_spot;
  test.config.layout = Layout::expert_major;
  test.config.expert_capacity = 7;
  check_error_mode(test, 0, {"rank 0", "expert_capacity = 7", "24 would have sufficed"});
  test.config.layout = Layout::contiguous;
  test.config.alignment = 16;
  test.config.expert_capacity = 40;
  check_error_mode(test, 0, {"rank 0", "expert_capacity = 40", "64 would have sufficed"});  // 24 rows take 32, twice
}

/// An overflow is no failure of the group: many rounds with another victim each.
TEST(Capacity, TheGroupStaysUsable) {
  TestCase test = small_case(4);
  test.config.row_capacity = 6;
  test.config.overflow = Overflow::error;
  test.recipe.routing = oracle::Routing::all_to_one;
  test.rounds = 12;
  EXPECT_EQ(run_case(test), "");
}

}  // namespace
}  // namespace crossdock::testing
