// SPDX-License-Identifier: Apache-2.0
// `crossdock bench --compare`: what it calls a regression, on lines with no other keys than every line has.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "command/verbs.hpp"
#include "report/bench_report.hpp"

namespace crossdock::tools {
namespace {

constexpr const char* kKeys[] = {"op",        "ranks",       "tokens",    "hidden",    "experts",       "topk",
                                 "dtype",     "scale_bytes", "layout",    "path",      "combine_quant", "routing",
                                 "num_sms",   "mode",        "commit",    "us_median", "us_p99",        "wire_bytes",
                                 "wire_gbps", "limit_gbps",  "bit_exact", "host",      "driver",        "date"};
constexpr std::int64_t kLatency = 1 << 20, kLarge = 64 << 20;  // wire bytes: a matter of latency, of bandwidth

Record record(double us, std::int64_t wire_bytes) {
  Record r;
  r.problem.shape.num_ranks = 4, r.problem.shape.hidden = 7168, r.problem.shape.num_experts = 256,
  r.problem.shape.top_k = 8;
  r.problem.shape.max_tokens_per_rank = 128;
  r.run.op = Op::dispatch, r.run.mode = Mode::graph;
  r.setting = {"abc", "4x NVIDIA H200", "580", "2026-11-22", true};
  r.us_median = r.us_p99 = us;
  r.wire_bytes = wire_bytes;
  return r;
}

class Regression : public testing::Test {
 protected:
  ~Regression() override { std::remove(file_.c_str()); }
  void before(const Record& r, bool all_keys = false) {
    const nlohmann::ordered_json full = to_json(r);
    nlohmann::ordered_json line;
    for (const char* key : kKeys) line[key] = full.at(key);
    std::ofstream(file_, std::ios::app) << (all_keys ? full : line).dump() << "\n";
  }
  bool worse(const Record& r) const { return compare_with_baseline(file_, {r}); }

  const std::string file_ =
      testing::TempDir() + "compare-" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(Regression, LatencyMayGrowByFivePercent) {
  before(record(100, kLatency));
  EXPECT_FALSE(worse(record(104.9, kLatency)));
  EXPECT_TRUE(worse(record(105.1, kLatency)));
  EXPECT_FALSE(worse(record(50, kLatency)));
}

TEST_F(Regression, BandwidthMayShrinkByThreePercent) {
  before(record(100, kLarge));
  EXPECT_FALSE(worse(record(103, kLarge)));  // 2.9 %
  EXPECT_TRUE(worse(record(103.2, kLarge)));
}

TEST_F(Regression, OnlyOneOfManyHasToBeWorse) {
  Record other = record(10, kLatency);
  other.problem.shape.max_tokens_per_rank = 1;
  before(record(100, kLatency)), before(other);
  Record slow = other;
  slow.us_median = 11;
  EXPECT_FALSE(compare_with_baseline(file_, {record(100, kLatency), other}));
  EXPECT_TRUE(compare_with_baseline(file_, {record(100, kLatency), slow}));
}

TEST_F(Regression, WhatOnlySomeLinesSayCountsWhereBothSayIt) {
  Record tuned = record(10, kLatency);
  tuned.run.geometry.num_blocks = 8;
  before(tuned, true);
  EXPECT_THROW(worse(record(100, kLatency)), BadInput);
  before(record(100, kLatency), true);
  EXPECT_FALSE(worse(record(100, kLatency)));
  EXPECT_TRUE(worse(record(106, kLatency)));
}

/// Nothing compared is no success.
TEST_F(Regression, AFileAboutOtherCallsIsRefused) {
  before(record(100, kLatency));
  for (const auto& change :
       {+[](Record& r) { r.problem.shape.max_tokens_per_rank = 64; }, +[](Record& r) { r.run.geometry.num_sms = 16; },
        +[](Record& r) { r.setting.host = "2x NVIDIA H200"; }, +[](Record& r) { r.run.mode = Mode::eager; }}) {
    Record other = record(100, kLatency);
    change(other);
    EXPECT_THROW(worse(other), BadInput);
  }
  Record refused = record(100, kLatency);
  refused.refused = "no";
  EXPECT_THROW(worse(refused), BadInput);
  std::ofstream(file_, std::ios::app) << "{}\n";
  EXPECT_THROW(worse(record(100, kLatency)), BadInput);
}

TEST(Floor, IsOneSignalAndTheBytesAtTheLimitsRate) {
  Record r = record(100, 35'700'000);
  set_floor(r, 2.3);
  EXPECT_EQ(r.floor_us, 0) << "no limit is known";
  EXPECT_THROW(compare_with_floor(2.3, {r}), BadInput);
  r.limit_gbps = 357;
  set_floor(r, 2.3);
  EXPECT_NEAR(r.floor_us, 102.3, 1e-9);
  EXPECT_EQ(to_json(r)["floor_us"], 102.3);
  Record pair = r;
  pair.run.op = Op::pair;
  set_floor(pair, 2.3);
  EXPECT_NEAR(pair.floor_us, 104.6, 1e-9);
  Record on_cpu = r;
  on_cpu.setting.limit_of_link = false, on_cpu.payload_bytes = 4 * 357'000;
  set_floor(on_cpu, 1);
  EXPECT_NEAR(on_cpu.floor_us, 2, 1e-9) << "payload of one of four ranks";
}

TEST(Floor, AMissIsMoreThanAQuarterAndThreeMicrosecondsAbove) {
  Record r = record(130.8, 35'700'000);
  r.limit_gbps = 357;
  set_floor(r, 2.3);
  Record slow = r;
  slow.us_median = 130.9;
  EXPECT_EQ(compare_with_floor(2.3, {r}), 0);
  EXPECT_EQ(compare_with_floor(2.3, {r, slow, slow}), 2);
}

Record of_zipf(double us, int tokens) {
  Record r = record(us, 35'700'000);
  r.problem.routing = oracle::Routing::zipf, r.problem.shape.max_tokens_per_rank = tokens;
  r.limit_gbps = 400, r.pattern_gbps = 357;
  set_floor(r, 2.3);
  return r;
}

TEST(Floor, WhereExpertsAreFavouredItIsOfTheBareCopyInTheSamePattern) {
  Record r = of_zipf(100, 4096);
  EXPECT_NEAR(r.floor_us, 102.3, 1e-9);
  EXPECT_EQ(to_json(r)["pattern_gbps"], 357);
  r.setting.limit_of_link = false, r.floor_us = 0;
  set_floor(r, 2.3);
  EXPECT_NEAR(r.floor_us, 102.3, 1e-9) << "what crosses, on the CPU too";
  r.pattern_gbps = r.floor_us = 0;
  set_floor(r, 2.3);
  EXPECT_EQ(r.floor_us, 0) << "the best push of the run is no limit of it";
  EXPECT_TRUE(to_json(r)["pattern_gbps"].is_null());
}

TEST(Floor, WhereExpertsAreFavouredAMissIsMoreThanFifteenPercentAbove) {
  EXPECT_NEAR(allowed_us(of_zipf(100, 4096)), 117.645, 1e-9);
  EXPECT_NEAR(allowed_us(of_zipf(100, 129)), 117.645, 1e-9);
  EXPECT_NEAR(allowed_us(of_zipf(100, 128)), 122.645, 1e-9);
  EXPECT_EQ(compare_with_floor(2.3, {of_zipf(117.6, 4096), of_zipf(122.6, 128)}), 0);
  EXPECT_EQ(compare_with_floor(2.3, {of_zipf(117.7, 4096), of_zipf(122.7, 128)}), 2);
}

TEST(Lines, FiguresPrintNoMoreDigitsThanTheyAreRoundedTo) {
  Record r = record(8.3704, 35'700'000);
  r.limit_gbps = 3.88496, r.rel_error = 0.0016604;
  const nlohmann::ordered_json line = to_json(r);
  EXPECT_EQ(line["us_median"].dump(), "8.37");
  EXPECT_EQ(line["limit_gbps"].dump(), "3.885");
  EXPECT_EQ(line["rel_error"].dump(), "0.00166");
}

}  // namespace
}  // namespace crossdock::tools
