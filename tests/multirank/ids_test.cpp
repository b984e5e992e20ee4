// SPDX-License-Identifier: Apache-2.0
// Expert ids that name nobody, the same expert twice, or no expert at all.
#include <gtest/gtest.h>

#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

TEST(Ids, EveryRoutingInEveryLayout) {
  for (const oracle::Routing routing : oracle::kRoutings)
    for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
      TestCase test = small_case(4);
      test.config.layout = layout;
      test.config.num_experts = 22;
      test.config.top_k = 6;
      test.config.combine_topk_weights = test.combine_topk_weights = true;
      test.recipe.routing = routing;
      test.recipe.weight_fill = oracle::Fill::edges;
      test.topk_ids_are_int64 = routing == oracle::Routing::bad64;
      test.rounds = 2;
      ASSERT_EQ(run_case(test), "");
    }
}

TEST(Ids, BothWidths) {
  for (const bool wide : {false, true}) {
    TestCase test = small_case(3);
    test.recipe.routing = oracle::Routing::bad;
    test.topk_ids_are_int64 = wide;
    EXPECT_EQ(run_case(test), "");
  }
}

/// Inputs whose ids the test writes itself.
Answers with_ids(const TestCase& test, const std::vector<std::int64_t>& ids_of_each_token) {
  std::vector<oracle::RankInput> inputs = answers_of(test).inputs;
  for (oracle::RankInput& in : inputs)
    for (std::size_t i = 0; i < in.ids.size(); ++i) in.ids[i] = ids_of_each_token[i % test.config.top_k];
  return answers_to(test, inputs);
}

TEST(Ids, NobodyIsRouted) {
  TestCase test = small_case(3);
  for (const Layout layout : {Layout::token_major, Layout::contiguous}) {
    test.config.layout = layout;
    const Answers full = answers_of(test), none = with_ids(test, {-1, -1});
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      rank.run(full);
      rank.run(none);
      rank.run(full);
    });
    EXPECT_EQ(log.text(), "");
  }
}

/// A repeated id adds its weight, in the order of the ids, and no row.
TEST(Ids, TheSameExpertInEverySlot) {
  TestCase test = small_case(3);
  test.config.top_k = 5;
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
    test.config.layout = layout;
    const Answers answers = with_ids(test, {5, 5, 5, 5, 5});
    Log log;
    run_ranks(test, log, [&](Rank& rank) { rank.run(answers); });
    EXPECT_EQ(log.text(), "");
    EXPECT_EQ(answers.received[1].num_rows, 24);  // one row per token
  }
}

/// Reported at the next call and by poll, with the count and the range; forgotten by clear_status, and only by it.
TEST(Ids, OutOfRangeIsReportedAndCleared) {
  TestCase test = small_case(2);
  test.topk_ids_are_int64 = true;
  const Answers bad = with_ids(test, {3, std::int64_t{1} << 32}), good = with_ids(test, {3, 5});
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    const std::string here = "rank " + std::to_string(rank.rank());
    Round round(test, bad, rank.rank()), after(test, good, rank.rank());
    {
      const Received received = rank.exchange.dispatch(round.input());
      round.check(view_of(received), rank.log);
    }
    for (int tries = 0; tries < 2; ++tries) {
      try {
        (void)rank.exchange.dispatch(after.input());
        rank.log.add("not refused");
      } catch (const UsageError& error) {
        for (const std::string& word : {here, std::string("8 expert ids"), std::string("[-1, 8)")})
          if (std::string(error.what()).find(word) == std::string::npos) rank.log.add(word, " missing: ", error.what());
      }
    }
    const Status status = rank.exchange.poll();
    if (status.code != StatusCode::usage || status.fatal || status.rank != rank.rank())
      rank.log.add("poll: ", status.text);
    rank.exchange.clear_status();
    rank.run(good);
  });
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace crossdock::testing
