// SPDX-License-Identifier: Apache-2.0
// `crossdock profile`: which calls are flagged, on durations that were made up.
#include "report/call_times.hpp"

#include <gtest/gtest.h>

namespace crossdock::tools {
namespace {

using Calls = std::vector<std::size_t>;

TEST(CallTimes, WhatTakesOverThreeTimesTheMeanIsFlagged) {
  std::vector<double> us(96, 10);
  EXPECT_EQ(outliers_of(us), Calls{});
  us[7] = 29;  // below 3 x the mean of 10.2
  EXPECT_EQ(outliers_of(us), Calls{});
  us[7] = 33, us[95] = 1000;  // the mean is 20.6 now, so that 33 is none
  EXPECT_EQ(outliers_of(us), Calls{95});
  us[7] = 70;
  EXPECT_EQ(outliers_of(us), (Calls{7, 95}));
  EXPECT_EQ(outliers_of({1, 1, 1, 1, 1, 3, 0, 0, 1}), Calls{}) << "exactly three times the mean of 1";
  EXPECT_EQ(outliers_of({}), Calls{});
}

TEST(CallTimes, TheFileOfARankNamesThem) {
  Samples samples;
  samples.device_us = {2, 2, 2, 2, 2, 2, 2, 50};
  samples.host_us = {1, 3};
  const auto json = json_of(samples);
  EXPECT_EQ(json["calls"], 8);
  EXPECT_EQ(json["device_mean_us"], 8);
  EXPECT_EQ(json["device_total_us"], 64);
  EXPECT_EQ(json["device_min_us"], 2);
  EXPECT_EQ(json["device_max_us"], 50);
  EXPECT_EQ(json["host_mean_us"], 2);
  ASSERT_EQ(json["over_3x_mean"].size(), 1u);
  EXPECT_EQ(json["over_3x_mean"][0]["call"], 7);
  EXPECT_EQ(json["over_3x_mean"][0]["us"], 50);
}

}  // namespace
}  // namespace crossdock::tools
