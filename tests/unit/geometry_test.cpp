// SPDX-License-Identifier: Apache-2.0
// The rule for blocks, threads and pieces: within its bounds for every size, and a few launches by hand.
#include "tuning/geometry.hpp"

#include <gtest/gtest.h>

namespace crossdock::tuning {
namespace {

constexpr platform::Limits kH200{.num_sms = 132, .width = 32, .max_threads = 1024};
constexpr platform::Limits kMi300x{.num_sms = 304, .width = 64, .max_threads = 1024};
constexpr platform::Limits kCpu{.num_sms = 1, .width = 1, .max_threads = 1};

TEST(Geometry, StaysWithinItsBounds) {
  for (const platform::Limits& limits : {kH200, kMi300x, kCpu})
    for (const std::int64_t row_bytes : {16, 1024, 7424, 14336, 1 << 20})
      for (const std::int64_t rows : {0, 1, 8, 100, 4096, (1 << 24) - 1})
        for (const int num_sms : {0, 1, 16, 5000})
          for (const int resident : {1, 66, 256}) {
            const Choice choice = choose(limits, rows, row_bytes, num_sms, resident, 1);
            SCOPED_TRACE(testing::Message() << limits.num_sms << " SMs, " << rows << " rows of " << row_bytes << " bytes, num_sms "
                                            << num_sms << ", resident " << resident);
            EXPECT_GE(choice.geometry.num_blocks, 1);
            EXPECT_LE(choice.geometry.num_blocks, resident);
            EXPECT_LE(choice.geometry.num_blocks, num_sms ? num_sms : limits.num_sms);
            EXPECT_EQ(choice.geometry.num_threads % limits.width, 0);
            EXPECT_LE(choice.geometry.num_threads, limits.max_threads);
            EXPECT_GE(choice.pieces, 1);
            EXPECT_LE(choice.pieces, 32);  // kernels count pieces of at most 2^24 tokens in 32 bits
          }
}

TEST(Geometry, OneRowIsSplitOverTheWarpsOfAFewBlocks) {
  const Choice choice = choose(kH200, 1, 14336, 0, 132);
  EXPECT_EQ(choice.pieces, 28);  // 512 bytes, a load of 16 bytes for each lane
  EXPECT_EQ(choice.geometry.num_blocks, 2);
  EXPECT_EQ(choose(kH200, 1, 14336, 0, 132, 1).geometry.num_blocks, 3);
}

TEST(Geometry, ManyRowsAreCutAt7168BytesOnAllMultiprocessors) {
  EXPECT_EQ(choose(kH200, 4096, 14336, 0, 132).pieces, 2);
  EXPECT_EQ(choose(kH200, 4096, 7168, 0, 132).pieces, 1);
  EXPECT_EQ(choose(kH200, 4096, 14336, 0, 132, 1).geometry.num_blocks, 132);
  EXPECT_EQ(choose(kMi300x, 4096, 14336, 0, 256).geometry.num_blocks, 256);
}

TEST(Geometry, TheCpuIsOneThread) {
  const Choice choice = choose(kCpu, 4096, 14336, 0, 256, 1);
  EXPECT_EQ(choice.geometry.num_blocks, 1);
  EXPECT_EQ(choice.geometry.num_threads, 1);
  EXPECT_EQ(choice.pieces, 1);
}

}  // namespace
}  // namespace crossdock::tuning
