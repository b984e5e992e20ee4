// SPDX-License-Identifier: Apache-2.0
// What the HIP machine computes without instructions of its own, for waves of 64 and of 32.
#include "platform/hip/arithmetic.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <utility>

#include "tuning/geometry.hpp"

namespace crossdock::platform::hip {
namespace {

TEST(HipArithmetic, ThreadsOfABlockFillItsWaves) {
  for (const int width : {32, 64})
    for (int thread = 0; thread < 1024; ++thread) {
      EXPECT_EQ(lane_of(thread, width), thread % width);
      EXPECT_EQ(warp_of(thread, width), thread / width);
    }
}

/// Lanes in lockstep: all values of a wave as one.
template <class T>
struct Wave {
  std::array<T, 64> lanes;
  int width;
  friend Wave exchanged(const Wave& mine, int step) {
    Wave theirs = mine;
    for (int lane = 0; lane < mine.width; ++lane)
      theirs.lanes[lane] = mine.lanes[permute_address(partner_of(lane, step)) / 4];
    return theirs;
  }
};

template <class T, class Join>
Wave<T> joined(const Wave<T>& wave, int n, Join join) {
  return butterfly(
      wave, n, [](const Wave<T>& w, int step) { return exchanged(w, step); },
      [&](const Wave<T>& a, const Wave<T>& b) {
        Wave<T> c = a;
        for (int lane = 0; lane < a.width; ++lane) c.lanes[lane] = join(a.lanes[lane], b.lanes[lane]);
        return c;
      });
}

TEST(HipArithmetic, AButterflyGivesEveryLaneTheJoinOfItsGroup) {
  for (const int width : {32, 64})
    for (int n = 1; n <= width; n *= 2) {
      Wave<int> wave{{}, width};
      for (int lane = 0; lane < width; ++lane) wave.lanes[lane] = (lane * 37 + n) % 101;
      const Wave<int> most = joined(wave, n, [](int a, int b) { return std::max(a, b); });
      const Wave<int> sum = joined(wave, n, [](int a, int b) { return a + b; });
      for (int lane = 0; lane < width; ++lane) {
        int largest = 0, total = 0;
        for (int i = lane / n * n; i < lane / n * n + n; ++i)
          largest = std::max(largest, wave.lanes[i]), total += wave.lanes[i];
        EXPECT_EQ(most.lanes[lane], largest) << "width " << width << " n " << n << " lane " << lane;
        EXPECT_EQ(sum.lanes[lane], total) << "width " << width << " n " << n << " lane " << lane;
      }
    }
}

/// Blocks of dispatch as docs/hip.md shows them beside those of others: 256 compute units, bf16 rows of 7168.
TEST(HipArithmetic, GeometryOfAnMi355x) {
  for (const auto& [tokens, blocks] :
       {std::pair{4, 8}, std::pair{64, 113}, std::pair{512, 256}, std::pair{4096, 256}}) {
    const tuning::Choice choice = tuning::choose({256, kWidth, 1024}, tokens, 7168 * 2, {}, 256, 1);
    EXPECT_EQ(choice.geometry.num_blocks, blocks) << tokens << " tokens";
    EXPECT_EQ(choice.geometry.num_threads, 8 * kWidth);
  }
}

TEST(HipArithmetic, TicksAreTenNanoseconds) {
  static_assert(ns_of_ticks(0) == 0 && ns_of_ticks(1) == 10);
  EXPECT_EQ(ns_of_ticks(100'000'000), 1'000'000'000u);
  EXPECT_EQ(ns_of_ticks(std::uint64_t{1} << 60), std::uint64_t{10} << 60);  // wraps after 5,800 years
}

TEST(HipArithmetic, ArchitecturesByName) {
  static_assert(architecture_of("gfx942") == Architecture{9, 4, 2});
  static_assert(architecture_of("gfx950") == Architecture{9, 5, 0});
  static_assert(architecture_of("gfx90a") == Architecture{9, 0, 10});
  static_assert(architecture_of("gfx1030") == Architecture{10, 3, 0});
  for (const char* name : {"", "gfx", "gfx9", "gfx94", "sm_90", "gfx94g", "gfxab2", "gfx94200", "gfx942:sramecc+"})
    EXPECT_EQ(architecture_of(name), Architecture{}) << name;
}

}  // namespace
}  // namespace crossdock::platform::hip
