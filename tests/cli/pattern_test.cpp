// SPDX-License-Identifier: Apache-2.0
// Who sends how many bytes to whom, what is copied in that pattern, and how often.
#include <gtest/gtest.h>

#include <algorithm>

#include "report/bench_record.hpp"

namespace crossdock::tools {
namespace {

using Amounts = std::vector<std::int64_t>;

/// Three ranks with two experts each, two ids of a token, rows of 128 bytes. Of rank 0 the tokens go to ranks 1 | 1, 0 | 0, of
/// rank 1 to 0, of rank 2 to 1, 2; the first names two experts of rank 1.
Problem by_hand() {
  const auto trace = std::make_shared<Trace>();
  trace->num_experts = 6, trace->top_k = 2, trace->tokens = {3, 1, 1};
  trace->ids = {2, 3, 2, 0, 1, -1, /* rank 1 */ 0, -1, /* rank 2 */ 3, 5};
  trace->weights.assign(trace->ids.size(), 1.0f);
  Problem problem;
  problem.shape.hidden = 64;
  follow_trace(problem, trace, 3);
  return problem;
}

TEST(Pattern, IsWhatEachRankSendsEachOtherOne) {
  const Data data(by_hand());
  constexpr std::int64_t kRow = 128 + 2 * 8 + 16, kCounts = 2 * 4;  // ids and weights, source; experts of a rank
  const auto of = [](const Data& d, Op op) { return traffic_of(d, op).front().amounts(); };
  EXPECT_EQ(of(data, Op::dispatch),
            (Amounts{0, 2 * kRow + kCounts, kCounts, kRow + kCounts, 0, kCounts, kCounts, kRow + kCounts, 0}));
  EXPECT_EQ(of(data, Op::replay), (Amounts{0, 256, 0, 128, 0, 0, 0, 128, 0}));
  EXPECT_EQ(of(data, Op::combine), (Amounts{0, 128, 0, 256, 0, 128, 0, 0, 0}));
  Problem other = by_hand();
  other.second_result = true;
  EXPECT_EQ(of(Data(other), Op::combine), (Amounts{0, 136, 0, 272, 0, 136, 0, 0, 0}));
  other = by_hand();
  other.path = Path::fused;
  EXPECT_EQ(of(Data(other), Op::combine), (Amounts{0, 128, 0, 384, 0, 128, 0, 0, 0})) << "a row per id";
}

TEST(Pattern, WireBytesAreThoseOfTheBusiestRank) {
  const Data data(by_hand());
  const auto wire_bytes = [&](Op op) {
    tools::Run run;
    run.op = op;
    return record_of(data, run, {}).wire_bytes;
  };
  EXPECT_EQ(wire_bytes(Op::dispatch), 3 * 160 + 2 * 8) << "into rank 1";
  EXPECT_EQ(wire_bytes(Op::combine), 3 * 128) << "out of rank 1";
  EXPECT_EQ(wire_bytes(Op::pair), 496 + 384);
}

TEST(Pattern, IsScaledInProportion) {
  Traffic bytes(3);
  bytes.add(0, 1, 300), bytes.add(2, 1, 100), bytes.add(1, 0, 49), bytes.add(1, 1, 1000);
  EXPECT_EQ(bytes.busiest(), 400) << "nothing is sent to oneself";
  EXPECT_EQ(bytes.scaled(8).amounts(), (Amounts{0, 6, 0, 1, 0, 0, 0, 2, 0}));
}

TEST(Pattern, RoutingsThatFavourExpertsAreKnown) {
  std::string names;
  Problem problem;
  for (const oracle::Routing routing : oracle::kRoutings) {
    problem.routing = routing;
    if (favours_experts(problem)) names += std::string(oracle::name_of(routing)) + " ";
  }
  EXPECT_EQ(names, "hot_spot soft_hot zipf all_to_one idle_rank mixed ");
  EXPECT_TRUE(favours_experts(by_hand()));
}

/// Says of every pattern that it is copied at so many GB/s as its busiest bytes, and counts.
class Counting : public Measurer {
 public:
  Counting() : Measurer({}) {}
  double pattern_gbps(const Traffic& bytes) override {
    ++asked;
    return static_cast<double>(bytes.busiest());
  }
  std::unique_ptr<Bench> open(const Data&, const std::vector<oracle::RankResult>&) override { return nullptr; }
  std::vector<Limit> limits(int) override { return {}; }
  double signal_us(int) override { return 0; }

  int asked = 0;
};

TEST(Pattern, IsMeasuredOnceInARun) {
  Counting measurer;
  Traffic there(2), more(2);
  there.add(0, 1, 300), more.add(0, 1, 500);
  EXPECT_EQ(measurer.patterns_gbps({there}), 300);
  EXPECT_EQ(measurer.patterns_gbps({there, more}), 400) << "one ns each, for 800 bytes";
  EXPECT_EQ(measurer.patterns_gbps({there.returned()}), 300);
  EXPECT_EQ(measurer.patterns_gbps({more}), 500);
  EXPECT_EQ(measurer.asked, 3) << "there, more, and back";
  EXPECT_EQ(measurer.patterns_gbps({there, Traffic(2)}), 0) << "one is not measured";
}

}  // namespace
}  // namespace crossdock::tools
