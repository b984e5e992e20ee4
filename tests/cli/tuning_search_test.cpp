// SPDX-License-Identifier: Apache-2.0
// The search of `crossdock tune`, on a device made of formulas.
#include "jobs/tuning_search.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace crossdock::tools {
namespace {

const auto kForever = [] { return false; };

/// A device of 100 blocks of 16 warps on which 32 blocks of 8 warps and 4 splits_per_row are best.
struct Device {
  int trials = 0;
  double rule_us = 20, noise = 0;

  Trial operator()(const CallOptions& asked, int) {
    Trial trial{asked, {100, 16, 2, TuningSource::rule}, 0};
    if (asked.num_blocks) trial.launch.num_blocks = std::min(asked.num_blocks, 100);
    if (asked.num_warps) trial.launch.num_warps = std::min(asked.num_warps, 16);
    if (asked.splits_per_row) trial.launch.splits_per_row = std::min(asked.splits_per_row, 14);
    const LaunchInfo& l = trial.launch;
    const double away = std::abs(std::log2(l.num_blocks / 32.0)) + std::abs(std::log2(l.num_warps / 8.0)) +
                        std::abs(std::log2(l.splits_per_row / 4.0));
    const double best = std::abs(std::log2(100 / 32.0)) + 2;
    trial.us = rule_us * (0.5 + 0.5 * away / best) * (1 + noise * (trials++ % 3));
    return trial;
  }
};

TEST(TuningSearch, FindsWhatIsBest) {
  Device device;
  const Found found = search([&](const CallOptions& asked, int repeat) { return device(asked, repeat); }, 5, kForever);
  EXPECT_DOUBLE_EQ(found.rule.us, 20);
  EXPECT_EQ(found.best.asked.num_blocks, 32);
  EXPECT_EQ(found.best.asked.num_warps, 8);
  EXPECT_EQ(found.best.asked.splits_per_row, 4);
  EXPECT_DOUBLE_EQ(found.gain(), 0.5);
  EXPECT_LT(found.tried, 40);
  EXPECT_LE(device.trials, found.tried + 6);
}

TEST(TuningSearch, LeavesTheRuleWhereNothingIsFaster) {
  const Found found = search(
      [](const CallOptions& asked, int) {
        return Trial{asked, {1, 1, 1, TuningSource::rule}, asked.num_blocks ? 10.0 : 9.9};
      },
      5, kForever);
  EXPECT_EQ(found.best.asked.num_blocks, 0);
  EXPECT_EQ(found.gain(), 0);
  EXPECT_LE(found.tried, 7);  // no axis goes on once nothing more fits
}

/// One lucky measurement is no gain: the second one decides.
TEST(TuningSearch, LuckIsNoGain) {
  int n = 0;
  const Found found = search(
      [&](const CallOptions& asked, int) {
        return Trial{asked, {1, 1, 1, TuningSource::rule}, n++ == 1 ? 5.0 : 10.0};
      },
      5, kForever);
  EXPECT_EQ(found.best.asked.num_blocks, 0);
  EXPECT_EQ(found.best.us, found.rule.us);
}

TEST(TuningSearch, StopsWhenTimeIsUp) {
  Device device;
  const Found found = search([&](const CallOptions& asked, int repeat) { return device(asked, repeat); }, 5,
                             [&] { return device.trials >= 3; });
  EXPECT_EQ(found.tried, 3);
}

}  // namespace
}  // namespace crossdock::tools
