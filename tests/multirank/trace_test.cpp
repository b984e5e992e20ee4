// SPDX-License-Identifier: Apache-2.0
// Time stamps of the phases: in order, of every operation, the newest of a ring; none where they are off.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

TEST(Trace, IsEmptyWhereItIsOff) {
  const TestCase test = small_case(2);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    rank.run(answers);
    if (!rank.exchange.trace().empty()) log.add("there are events");
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Trace, HasThePhasesOfEveryOperationInOrder) {
  TestCase test = small_case(3);
  test.config.trace_events = 1 << 14;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    for (int n = 0; n < 4; ++n) rank.run(answers);
    const std::vector<TraceEvent> events = rank.exchange.trace();
    std::set<std::uint64_t> epochs, dispatches;
    std::uint64_t last = 0;
    for (const TraceEvent& event : events) {
      if (event.time_ns < last) log.add("not in order");
      last = event.time_ns;
      epochs.insert(event.epoch);
      if (!event.combine) dispatches.insert(event.epoch);
      if (event.buffer_set != 0 || event.block < 0 || (test.backend == BackendKind::cpu && event.block != 0))
        log.add("place ", event.buffer_set, " block ", event.block);
      if ((event.epoch % 2 == 0) != event.combine) log.add("epoch ", event.epoch, " is not what it says");
    }
    if (epochs != std::set<std::uint64_t>{1, 2, 3, 4, 5, 6, 7, 8}) log.add(epochs.size(), " operations");
    if (dispatches != std::set<std::uint64_t>{1, 3, 5, 7}) log.add(dispatches.size(), " dispatches");
    if (events.front().phase != Phase::begin || events.back().phase != Phase::end)
      log.add("begins or ends with something else");
  });
  EXPECT_EQ(log.text(), "");
}

/// Each wait stamps the signal of every rank once, in its phase, before the block goes on.
TEST(Trace, HasTheSignalOfEveryPeer) {
  TestCase test = small_case(3);
  test.config.trace_events = 1 << 14;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    const auto [plan, rows] = rank.run_and_keep(round);
    rank.exchange.combine(plan, rows, round.output());
    synchronize(test.backend, nullptr);
    std::map<std::tuple<std::uint64_t, int, Phase>, std::multiset<int>> peers;  // by epoch, block and phase
    std::map<std::pair<std::uint64_t, int>, Phase> now;
    for (const TraceEvent& event : rank.exchange.trace()) {
      if (event.peer < 0) {
        now[{event.epoch, event.block}] = event.phase;
        continue;
      }
      peers[{event.epoch, event.block, event.phase}].insert(event.peer);
      if (test.backend == BackendKind::cpu && now[{event.epoch, event.block}] != event.phase)
        log.add("a signal of ", name_of(event.phase), " in ", name_of(now[{event.epoch, event.block}]));
    }
    std::set<std::pair<std::uint64_t, Phase>> waits;
    for (const auto& [of, seen] : peers) {
      waits.insert({std::get<0>(of), std::get<2>(of)});
      if (seen != std::multiset<int>{0, 1, 2}) log.add(seen.size(), " signals in ", name_of(std::get<2>(of)));
    }
    const std::set<std::pair<std::uint64_t, Phase>> right{{1, Phase::wait_counts},
                                                          {1, Phase::wait_done},
                                                          {2, Phase::wait_ready},
                                                          {3, Phase::wait_enter},
                                                          {3, Phase::wait_ready}};
    if (waits != right) log.add(waits.size(), " waits of signals");
  });
  EXPECT_EQ(log.text(), "");
}

/// Phases of a dispatch, as XD_PHASES has them; rows that were dropped are counted again.
TEST(Trace, ADispatchHasItsPhasesInTheOrderOfTheList) {
  for (const bool drops : {false, true}) {
    TestCase test = small_case(2);
    test.config.trace_events = 1 << 10;
    if (drops) test.config.row_capacity = 2;
    const Answers answers = answers_of(test);
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      rank.run(answers);
      std::vector<Phase> phases;
      int last = 0;  // the block that waits for `done`
      for (const TraceEvent& event : rank.exchange.trace())
        if (event.phase == Phase::wait_done && event.epoch == 1) last = event.block;
      for (const TraceEvent& event : rank.exchange.trace())
        if (event.peer < 0 && event.epoch == 1 && event.block == last && event.phase != Phase::publish)
          phases.push_back(event.phase);
      // Its first warp takes the stamps. It writes the plan only if it is the block's only one.
      std::vector<Phase> right{Phase::begin, Phase::wait_counts, Phase::move, Phase::signal_done};
      if (rank.exchange.last_launch().num_warps == 1) right.push_back(Phase::write_plan);
      right.push_back(Phase::wait_done);
      if (drops) right.push_back(Phase::recount);
      right.push_back(Phase::end);
      if (phases != right) log.add("rank ", rank.rank(), ": ", phases.size(), " phases, not ", right.size());
      if (!std::is_sorted(phases.begin(), phases.end())) log.add("the list has them in another order");
    });
    EXPECT_EQ(log.text(), "");
  }
}

TEST(Trace, KeepsTheNewest) {
  TestCase test = small_case(2);
  test.config.trace_events = 10;
  test.config.max_in_flight = 2;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    for (int n = 0; n < 20; ++n) rank.run(answers);
    const std::vector<TraceEvent> events = rank.exchange.trace();
    if (events.size() != 10) log.add(events.size(), " events");
    if (events.back().epoch != 40 || events.back().phase != Phase::end)
      log.add("the newest is epoch ", events.back().epoch);
  });
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace crossdock::testing
