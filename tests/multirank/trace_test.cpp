// SPDX-License-Identifier: Apache-2.0
// Time stamps of the phases: in order, of every operation, the newest of a ring; none where they are off.
#include <gtest/gtest.h>

#include <set>

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
      if (event.place != 0 || event.block < 0 || (test.backend == BackendKind::cpu && event.block != 0))
        log.add("place ", event.place, " block ", event.block);
      if ((event.epoch % 2 == 0) != event.combine) log.add("epoch ", event.epoch, " is not what it says");
    }
    if (epochs != std::set<std::uint64_t>{1, 2, 3, 4, 5, 6, 7, 8}) log.add(epochs.size(), " operations");
    if (dispatches != std::set<std::uint64_t>{1, 3, 5, 7}) log.add(dispatches.size(), " dispatches");
    if (events.front().phase != Phase::begin || events.back().phase != Phase::end)
      log.add("begins or ends with something else");
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Trace, KeepsTheNewest) {
  TestCase test = small_case(2);
  test.config.trace_events = 10;
  test.config.in_flight = 2;
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
