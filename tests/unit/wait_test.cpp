// SPDX-License-Identifier: Apache-2.0
// A rank's failure: who records it, and that every thread that fails leaves poison at all ranks.
#include "sync/wait_device.hpp"

#include <gtest/gtest.h>

#include "platform/cpu/scalar_machine.hpp"

namespace crossdock::sync {
namespace {

struct Ranks {
  Control control[3] = {};
  FailureRecord failure = {};
  FaultView view_of(int rank) {
    FaultView faults{};
    for (int r = 0; r < 3; ++r) faults.control[r] = &control[r];
    faults.failure = &failure;
    faults.rank = rank;
    faults.num_ranks = 3;
    return faults;
  }
};

constexpr Poison kLost{StatusCode::peer_lost, Edge::done, 1, 2};

TEST(Fail, TheFirstIsRecordedAndReportedEverywhere) {
  Ranks ranks;
  platform::cpu::ScalarMachine m;
  fail(m, ranks.view_of(1), kLost, {7, 6, 0, 0});
  EXPECT_EQ(ranks.failure.code, static_cast<std::uint64_t>(StatusCode::peer_lost));
  EXPECT_EQ(ranks.failure.peer, 2u);
  for (const Control& control : ranks.control) {
    EXPECT_EQ(control.poison[1], kLost.word());
    EXPECT_EQ(control.wait_reports[1].epoch_expected, 7u);
  }
}

/// Another thread has claimed the failure and told nobody yet.
TEST(Fail, WhoComesLaterPoisonsAllRanksToo) {
  Ranks ranks;
  platform::cpu::ScalarMachine m;
  ranks.control[1].failure_claimed = 1;
  fail(m, ranks.view_of(1), kLost, {7, 6, 0, 0});
  EXPECT_EQ(ranks.failure.code, 0u) << "the record is the first one's";
  for (const Control& control : ranks.control) EXPECT_EQ(control.poison[1], kLost.word());
}

/// The first one has told its own rank: what is passed on is its word.
TEST(Fail, WhoComesLaterRepeatsTheWordOfTheFirst) {
  Ranks ranks;
  platform::cpu::ScalarMachine m;
  constexpr Poison first{StatusCode::aborted, Edge::counts, 1, 1};
  ranks.control[1].failure_claimed = 1;
  ranks.control[1].poison[1] = first.word();
  fail(m, ranks.view_of(1), kLost, {7, 6, 0, 0});
  for (const Control& control : ranks.control) EXPECT_EQ(control.poison[1], first.word());
}

}  // namespace
}  // namespace crossdock::sync
