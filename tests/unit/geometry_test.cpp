// SPDX-License-Identifier: Apache-2.0
// The rule for blocks, threads and splits_per_row: within its bounds for every size, and a few launches by hand.
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
            const Choice choice = choose(limits, rows, row_bytes, {.num_sms = num_sms}, resident, 1);
            SCOPED_TRACE(testing::Message() << limits.num_sms << " SMs, " << rows << " rows of " << row_bytes
                                            << " bytes, num_sms " << num_sms << ", resident " << resident);
            EXPECT_GE(choice.geometry.num_blocks, 1);
            EXPECT_LE(choice.geometry.num_blocks, resident);
            EXPECT_LE(choice.geometry.num_blocks, num_sms ? num_sms : limits.num_sms);
            EXPECT_EQ(choice.geometry.num_threads % limits.width, 0);
            EXPECT_LE(choice.geometry.num_threads, limits.max_threads);
            EXPECT_GE(choice.splits_per_row, 1);
            EXPECT_LE(choice.splits_per_row, 32);  // kernels count splits_per_row of at most 2^24 tokens in 32 bits
          }
}

TEST(Geometry, OneRowIsSplitOverTheWarpsOfAFewBlocks) {
  const Choice choice = choose(kH200, 1, 14336, {}, 132);
  EXPECT_EQ(choice.splits_per_row, 28);  // 512 bytes, a load of 16 bytes for each lane
  EXPECT_EQ(choice.geometry.num_blocks, 2);
  EXPECT_EQ(choose(kH200, 1, 14336, {}, 132, 1).geometry.num_blocks, 3);
}

TEST(Geometry, ManyRowsAreCutAt7168BytesOnAllMultiprocessors) {
  EXPECT_EQ(choose(kH200, 4096, 14336, {}, 132).splits_per_row, 2);
  EXPECT_EQ(choose(kH200, 4096, 7168, {}, 132).splits_per_row, 1);
  EXPECT_EQ(choose(kH200, 4096, 14336, {}, 132, 1).geometry.num_blocks, 132);
  EXPECT_EQ(choose(kMi300x, 4096, 14336, {}, 256).geometry.num_blocks, 256);
}

TEST(Geometry, TheCpuIsOneThread) {
  for (const GeometryRequest& request :
       {GeometryRequest{}, GeometryRequest{.num_sms = 7, .num_blocks = 5, .num_warps = 3}}) {
    const Choice choice = choose(kCpu, 4096, 14336, request, 256, 1);
    EXPECT_EQ(choice.geometry.num_blocks, 1);
    EXPECT_EQ(choice.geometry.num_threads, 1);
    EXPECT_EQ(choice.splits_per_row, 1);
  }
  EXPECT_EQ(choose(kCpu, 4096, 14336, {.splits_per_row = 5}, 256).splits_per_row, 5);
}

TEST(Geometry, WhatIsAskedIsDoneAndTheRestIsTheRules) {
  const Choice all = choose(kH200, 4096, 14336, {.num_blocks = 24, .num_warps = 3, .splits_per_row = 5}, 132, 1);
  EXPECT_EQ(all.geometry.num_blocks, 24);
  EXPECT_EQ(all.geometry.num_threads, 96);
  EXPECT_EQ(all.splits_per_row, 5);
  EXPECT_EQ(choose(kH200, 1, 14336, {.num_blocks = 24}, 132).geometry.num_blocks, 24);  // more than there are items
  const Choice warps = choose(kH200, 1, 14336, {.num_warps = 4}, 132);
  EXPECT_EQ(warps.splits_per_row, 28);
  EXPECT_EQ(warps.geometry.num_blocks, 7);
  const Choice splits_per_row = choose(kH200, 1, 14336, {.splits_per_row = 20}, 132);
  EXPECT_EQ(splits_per_row.geometry.num_blocks, 2);
  EXPECT_EQ(splits_per_row.geometry.num_threads, 512);
}

TEST(Geometry, BlocksThatWaitLeaveRoom) {
  EXPECT_EQ(default_reserved_sms(132), 32);
  EXPECT_EQ(default_reserved_sms(46), 11);
  EXPECT_EQ(waiting_blocks(132, 32, 2, 1), 50);
  EXPECT_EQ(waiting_blocks(132, 32, 1, 1), 66) << "half at most";
  EXPECT_EQ(waiting_blocks(132, 0, 1, 1), 66);
  EXPECT_EQ(waiting_blocks(132, 32, 2, 8), 6);
  EXPECT_EQ(waiting_blocks(132, 100, 4, 1), 8);
  EXPECT_EQ(waiting_blocks(132, 131, 4, 2), 1) << "one at least";
  for (const int num_sms : {1, 2, 4, 10, 16, 46, 304})
    for (const int calls : {1, 2, 4})
      for (const int ranks : {1, 2, 8}) {
        const int reserved = default_reserved_sms(num_sms), each = waiting_blocks(num_sms, reserved, calls, ranks);
        EXPECT_GE(each, 1);
        EXPECT_TRUE(each == 1 || each * calls * ranks <= num_sms - reserved) << num_sms;
      }
}

TEST(Geometry, WhatDoesNotFitIsCut) {
  const Choice choice = choose(kMi300x, 4096, 14336, {.num_blocks = 5000, .num_warps = 99, .splits_per_row = 99}, 304);
  EXPECT_EQ(choice.geometry.num_blocks, 304);
  EXPECT_EQ(choice.geometry.num_threads, 512);
  EXPECT_EQ(choice.splits_per_row, 32);
  EXPECT_EQ(choose(kH200, 4096, 14336, {.num_sms = 16, .num_blocks = 64}, 132).geometry.num_blocks, 16);
  EXPECT_EQ(choose(kH200, 4096, 14336, {.num_blocks = 200}, 264).geometry.num_blocks, 200);
}

TEST(Geometry, TheCallIsHeardBeforeTheConfigBeforeTheFile) {
  const GeometryRequest call{.num_sms = 1}, config{.num_sms = 2, .num_blocks = 3},
      file{.num_sms = 4, .num_blocks = 5, .num_warps = 6, .splits_per_row = 7};
  EXPECT_EQ(decide(call, config, file).request, (GeometryRequest{1, 3, 6, 7}));
  EXPECT_EQ(decide(call, config, file).by, TuningSource::call);
  EXPECT_EQ(decide({}, config, file).request, (GeometryRequest{2, 3, 6, 7}));
  EXPECT_EQ(decide({}, config, file).by, TuningSource::config);
  EXPECT_EQ(decide({}, {}, file).by, TuningSource::file);
  EXPECT_EQ(decide({.splits_per_row = 1}, {}, file).by, TuningSource::call);
  EXPECT_EQ(decide({}, {}, {}).request, GeometryRequest{});
  EXPECT_EQ(decide({}, {}, {}).by, TuningSource::rule);
}

}  // namespace
}  // namespace crossdock::tuning
