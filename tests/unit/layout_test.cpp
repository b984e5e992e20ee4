// SPDX-License-Identifier: Apache-2.0
// Rows from counts, compared with counting row by row.
#include "layout/slots.hpp"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace crossdock::layout {
namespace {

TEST(Layout, CountMatrix) {
  std::mt19937 random(1);
  for (int num_ranks = 1; num_ranks <= kMaxRanks; ++num_ranks) {
    std::vector<std::uint64_t> cells(num_ranks * (num_ranks + 1));
    for (std::uint64_t& cell : cells) cell = random() % 50;
    const CountMatrix matrix{cells.data(), num_ranks};
    for (int d = 0; d < num_ranks; ++d) {
      std::int64_t next = 0;
      for (int s = 0; s < num_ranks; ++s) {
        EXPECT_EQ(matrix.rows(s, d), static_cast<std::int64_t>(cells[s * (num_ranks + 1) + d]));
        EXPECT_EQ(matrix.first_row(s, d), next);
        next += matrix.rows(s, d);
        EXPECT_EQ(matrix.tokens(s), static_cast<std::int64_t>(cells[s * (num_ranks + 1) + num_ranks]));
      }
      EXPECT_EQ(matrix.rows_needed(d), next);
      for (std::int64_t capacity = 0; capacity <= next + 3; ++capacity) {
        std::int64_t row = 0;
        for (int s = 0; s < num_ranks; ++s) {  // row by row
          std::int64_t kept = 0;
          for (std::int64_t i = 0; i < matrix.rows(s, d); ++i) kept += row++ < capacity;
          EXPECT_EQ(matrix.kept_rows(s, d, capacity), kept);
        }
      }
    }
  }
}

TEST(Layout, LandingRowsAreDistinctAndDense) {
  Shape shape{};
  shape.top_k = 6;
  shape.ranks_per_token = 4;
  std::set<std::int64_t> seen, fused;
  for (std::int64_t token = 0; token < 10; ++token) {
    for (int o = 0; o < shape.ranks_per_token; ++o) seen.insert(combine_slot(token, o, shape));
    for (int j = 0; j < shape.top_k; ++j) fused.insert(fused_combine_slot(token, j, shape));
  }
  EXPECT_EQ(seen.size(), 40u);
  EXPECT_EQ(*seen.rbegin(), 39);
  EXPECT_EQ(fused.size(), 60u);
  EXPECT_EQ(fused_combine_slot(2, 3, shape), 15);  // token * k + j, as callers write it
}

TEST(Layout, PaddedRows) {
  Shape shape{};
  for (const int alignment : {1, 8, 16, 32, 128}) {
    shape.alignment = alignment;
    shape.layout = Layout::contiguous;
    for (std::int64_t count = 0; count < 300; ++count) {
      const std::int64_t padded = padded_rows(count, shape);
      EXPECT_EQ(padded % alignment, 0);
      EXPECT_GE(padded, count);
      EXPECT_LT(padded, count + alignment);
    }
    shape.layout = Layout::expert_major;
    EXPECT_EQ(padded_rows(7, shape), 7);
  }
}

TEST(Layout, FittingRows) {
  Shape shape{};
  shape.expert_capacity = 10;
  for (std::int64_t first = 0; first < 25; ++first)
    for (std::int64_t count = 0; count < 25; ++count) {
      shape.layout = Layout::expert_major;  // the capacity is each expert's own
      EXPECT_EQ(fitting_rows(first, count, shape), std::min<std::int64_t>(count, 10));
      shape.layout = Layout::contiguous;  // shared by all
      std::int64_t fit = 0;
      for (std::int64_t r = first; r < first + count; ++r) fit += r < 10;
      EXPECT_EQ(fitting_rows(first, count, shape), fit);
    }
}

}  // namespace
}  // namespace crossdock::layout
