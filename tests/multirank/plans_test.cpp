// SPDX-License-Identifier: Apache-2.0
// Kept plans, several Received in flight, dispatch without combine, combine after combine: any legal order of calls.
#include <gtest/gtest.h>

#include <optional>

#include "platform/cpu/sanitizers.hpp"
#include "support/script.hpp"

namespace crossdock::testing {
namespace {

constexpr bool kSlow = XD_ASAN || XD_TSAN;

TestCase plan_case(int ranks = 3) {
  TestCase test = small_case(ranks);
  test.config.hidden = 32;
  test.config.max_tokens_per_rank = 6;
  test.config.scale_bytes = 5;
  test.recipe.routing = oracle::Routing::mixed;
  return test;
}

TestCase with_seed(TestCase test, std::uint64_t seed) {
  test.recipe.seed = seed;
  return test;
}

Step dispatch(std::uint64_t routing, std::uint64_t payload = 0) { return {Do::dispatch, 0, routing, payload}; }

TEST(Plans, ReplayOfDispatchAndCombineInAnyOrderManyTimes) {
  for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
    TestCase test = plan_case();
    test.config.layout = layout;
    std::vector<Step> script = {dispatch(1), {Do::keep, 0, 1}, {Do::combine, 0, 1}};
    for (std::uint64_t n = 0; n < (kSlow ? 4 : 20); ++n) {
      script.push_back({Do::replay, 0, 1, n % 3});
      if (n % 3 != 1) script.push_back({n % 3 ? Do::drop_received : Do::combine, 0, 1, n % 4});
      if (n % 3 == 1) script.push_back({Do::combine, 0, 1, n % 4});
      for (std::uint64_t again = 0; again < n % 4; ++again) script.push_back({Do::combine_plan, 0, 1, again});
    }
    ASSERT_EQ(run_script(test, script, true), "");
  }
}

/// Two routings kept: each replay must find its own slots again, and padding that other rows have filled meanwhile is zero.
TEST(Plans, TwoPlansInTurn) {
  for (const Layout layout : {Layout::token_major, Layout::contiguous}) {
    TestCase test = plan_case(4);
    test.config.max_kept_plans = 2;
    test.config.layout = layout;
    test.config.zero_padding = layout == Layout::contiguous;
    test.config.alignment = layout == Layout::contiguous ? 8 : 1;
    std::vector<Step> script = {dispatch(1), {Do::keep, 0, 1}, {Do::combine, 0, 1},
                                dispatch(2), {Do::keep, 0, 2}, {Do::combine, 0, 2}};
    for (int n = 0; n < 6; ++n) {
      const std::uint64_t routing = 1 + static_cast<std::uint64_t>(n % 2);
      script.push_back({Do::replay, n % 2, routing, 3});
      script.push_back({Do::combine, 0, routing, 4});
      script.push_back({Do::combine_plan, 1 - n % 2, 3 - routing, 5});
      script.push_back(dispatch(7));  // a plain dispatch between leaves the plans alone
      script.push_back({Do::drop_received, 0, 7});
    }
    EXPECT_EQ(run_script(test, script, true), "");
  }
}

TEST(Plans, CombineAfterCombineOnEveryPathAndWire) {
  for (const Path path : {Path::staged, Path::zero_copy})
    for (const CombineQuant combine_quant :
         {CombineQuant::none, CombineQuant::fp8_direct_cast, CombineQuant::fp8_blockwise}) {
      if (path != Path::staged && combine_quant != CombineQuant::none) continue;
      TestCase test = plan_case();
      set_path(test.config, path);
      test.config.combine_quant = combine_quant;
      test.config.combine_topk_weights = test.combine_topk_weights = true;
      std::vector<Step> script = {dispatch(1), {Do::keep, 0, 1}, {Do::combine, 0, 1}};
      for (std::uint64_t n = 0; n < 12; ++n) script.push_back({Do::combine_plan, 0, 1, n % 4});
      ASSERT_EQ(run_script(test, script, true), "");
    }
}

TEST(Plans, DispatchWithoutCombine) {
  TestCase test = plan_case(5);
  std::vector<Step> script;
  for (std::uint64_t n = 1; n <= 10; ++n) {
    script.push_back(dispatch(n));
    script.push_back({Do::drop_received, 0, n});
  }
  EXPECT_EQ(run_script(test, script, true), "");
}

TEST(Plans, SeveralInFlightCombinedInAnyOrder) {
  for (const Path path : {Path::staged, Path::zero_copy, Path::fused}) {
    TestCase test = plan_case(4);
    set_path(test.config, path);
    test.config.max_in_flight = 3;
    const std::vector<Step> script = {
        dispatch(1), dispatch(2),         dispatch(3), {Do::combine, 1, 2},       {Do::combine, 1, 3},
        dispatch(4), {Do::combine, 0, 1}, dispatch(5), {Do::drop_received, 0, 4}, {Do::combine, 0, 5}};
    EXPECT_EQ(run_script(test, script, true), "");
  }
}

TEST(Plans, RandomScripts) {
  for (std::uint64_t seed = 1; seed <= (kSlow ? 6 : 40); ++seed) {
    TestCase test = plan_case(1 + static_cast<int>(seed) % 5);
    test.config.layout = static_cast<Layout>(seed % 3);
    test.config.max_in_flight = 1 + static_cast<int>(seed) % 3;
    test.config.max_kept_plans = static_cast<int>(seed) % 4;
    set_path(test.config, seed % 2 ? Path::staged : seed % 3 ? Path::zero_copy : Path::fused);
    if (test.config.fused) test.config.layout = Layout::token_major;
    test.config.combine_topk_weights = test.combine_topk_weights = seed % 4 == 0;
    test.config.num_blocks = seed % 3 == 0 ? 2 : 0;  // more than may wait: calls are made in steps
    ASSERT_EQ(run_script(test, random_script(test, seed, kSlow ? 15 : 40), seed % 2), "");
  }
}

TEST(Plans, RandomScriptsOnFibers) {
  for (std::uint64_t seed = 1; seed <= (kSlow ? 4 : 12); ++seed) {
    TestCase test = plan_case(2 + static_cast<int>(seed) % 2);
    test.config.layout = static_cast<Layout>(seed % 3);
    test.config.max_in_flight = 1 + static_cast<int>(seed) % 2;
    test.config.max_kept_plans = 2;
    set_path(test.config, seed % 2 ? Path::staged : Path::zero_copy);
    test.executor = {.width = seed % 2 ? 32 : 64,
                     .num_blocks = 1 + static_cast<int>(seed) % 3,
                     .num_waiting_blocks = static_cast<int>(seed) % 2,
                     .num_threads = 64,
                     .splits_per_row = 1 + static_cast<int>(seed) % 2,
                     .push = seed % 3 == 0,
                     .seed = seed};
    ASSERT_EQ(run_script(test, random_script(test, seed, kSlow ? 10 : 20), true), "");
  }
}

/// The plan and the Received may go in either order, also after the exchange object itself.
TEST(Plans, OutliveTheirExchange) {
  const TestCase test = plan_case(2);
  const Answers answers = answers_of(test);
  Log log;
  run_threads(2, log, [&, team = ThreadTeam(2)](int r) {
    std::optional<Plan> plan;
    std::optional<Received> received;
    {
      Rank rank(test, team, r, log);
      Round round(test, answers, r);
      received = rank.exchange.dispatch(round.input());
      rank.exchange.clear_status();
      plan = received->retain_plan();
    }
    Counts counts{};
    copy_out(test.backend, &counts, plan->counts(), sizeof counts);  // still mapped
    if (counts.num_rows != answers.received[r].num_rows) log.add("counts are gone");
    if (r == 0) received.reset();
    plan.reset();
  });
  EXPECT_EQ(log.text(), "");
}

/// A destructor is local: ranks that destroy a plan before or after the same dispatch use different memory for the next.
TEST(Plans, AreDestroyedWhenEachRankLikes) {
  TestCase test = plan_case(3);
  test.config.max_kept_plans = 2;
  const Answers answers[] = {answers_of(with_seed(test, 1)), answers_of(with_seed(test, 2)),
                             answers_of(with_seed(test, 3))};
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    std::vector<Plan> kept;
    for (int n = 0; n < 9; ++n) {
      const Answers& round_of = answers[n % 3];
      Round round(test, round_of, rank.rank());
      Received received = rank.exchange.dispatch(round.input());
      const View view = view_of(received);
      const CombineInput from = round.run_experts(received);
      check_received(test, round_of, rank.rank(), view, rank.log);
      rank.settle_reports(round_of);
      if (n % 3 == 0) kept.push_back(received.retain_plan());
      rank.combine(std::move(received), from, round.output());
      round.check_output(rank.log);
      if (!kept.empty() && n % 3 == rank.rank()) kept.erase(kept.begin());
    }
  });
  EXPECT_EQ(log.text(), "");
}

/// Replays of a graph write the plan that its dispatch took; a plan kept outside must be another.
TEST(Plans, AGraphDoesNotWriteAPlanThatIsKept) {
  for (const int max_kept_plans : {1, 2}) {
    TestCase test = plan_case(2);
    test.config.max_kept_plans = max_kept_plans;
    const Answers in_graph = answers_of(with_seed(test, 1)), kept = answers_of(with_seed(test, 2));
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      Round first(test, in_graph, rank.rank()), second(test, kept, rank.rank());
      Stream stream;
      stream.begin_capture();
      {
        Received received = rank.exchange.dispatch(first.input(), stream.options());
        const CombineInput from = first.run_experts(received, stream.handle());
        rank.exchange.combine(std::move(received), from, first.output(), stream.options());
      }
      const Graph graph = stream.end_capture();
      Received received = rank.exchange.dispatch(second.input());
      rank.exchange.clear_status();
      const Plan plan = received.retain_plan();
      const CombineInput from = second.run_experts(received);
      rank.exchange.combine(std::move(received), from, second.output());
      for (int n = 0; n < 3; ++n) {
        stream.replay(graph);
        stream.synchronize();
        rank.exchange.clear_status();
        second.spoil_output();
        rank.exchange.combine(plan, from, second.output());
        second.check_output(rank.log);
      }
    });
    EXPECT_EQ(log.text(), "");
  }
}

TEST(Plans, AReplayNeedsItsRowsAlsoWhereOnlyTheDeviceKnowsHowMany) {
  TestCase test = plan_case(1);
  test.device_tokens = true;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, 0);
    Received received = rank.exchange.dispatch(round.input());
    rank.exchange.clear_status();
    const Plan plan = received.retain_plan();
    rank.combine(std::move(received), round.run_experts(received), round.output());
    try {
      (void)rank.exchange.dispatch(plan, {});
      log.add("not refused");
    } catch (const UsageError& error) {
      if (std::string(error.what()).find("tokens is null") == std::string::npos) log.add(error.what());
    }
  });
  EXPECT_EQ(log.text(), "");
}

/// Combine slots that a Received has handed out belong to the caller's kernels until combine_fused.
TEST(Plans, ACombineAlongAPlanLeavesLandingRowsThatAreHandedOut) {
  for (const int max_in_flight : {1, 2}) {
    TestCase test = plan_case(2);
    test.config.max_in_flight = max_in_flight;
    set_path(test.config, Path::fused);
    test.recipe.routing = oracle::Routing::random;
    const Answers answers = answers_of(test);
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      Round round(test, answers, rank.rank());
      Received first = rank.exchange.dispatch(round.input());
      const Plan plan = first.retain_plan();
      (void)round.run_experts(first);
      rank.exchange.combine_fused(std::move(first), round.output());
      round.check_output(rank.log);
      Received second = rank.exchange.dispatch(round.input());
      (void)round.run_experts(second);  // into its combine slots
      const Buffer zeros(test.backend, 1 << 16);
      const CombineInput from{.rows = zeros.data()};
      Round elsewhere(test, answers, rank.rank());
      bool refused = false;
      try {
        rank.exchange.combine(plan, from, elsewhere.output());
      } catch (const StateError& error) {
        refused = std::string(error.what()).find("raise max_in_flight") != std::string::npos;
      }
      if (refused != (max_in_flight == 1)) rank.log.add("max_in_flight ", max_in_flight, ": refused ", refused);
      round.spoil_output();
      rank.exchange.combine_fused(std::move(second), round.output());
      round.check_output(rank.log);
    });
    EXPECT_EQ(log.text(), "") << max_in_flight;
  }
}

}  // namespace
}  // namespace crossdock::testing
