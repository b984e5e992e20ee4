// SPDX-License-Identifier: Apache-2.0
// Every cell of the feature matrix on the CPU, bit for bit on every rank.
#include "backend/matrix.hpp"

#include <gtest/gtest.h>

#include "platform/cpu/sanitizers.hpp"

namespace crossdock::testing {
namespace {

/// Under sanitizers each cell has one of its variants, another one from cell to cell.
std::vector<TestCase> scalar_cases(const Cell& cell, int idx) {
  std::vector<TestCase> cases;
  for (int variant = 0; variant < kNumVariants; ++variant)
    if (!(XD_ASAN || XD_TSAN) || variant == idx % kNumVariants) cases.push_back(case_of(cell, variant));
  return cases;
}

TEST(Matrix, EveryCellRunsOrIsRefusedWithAReason) {
  const Summary sum = walk(all_cells(), scalar_cases);
  EXPECT_EQ(sum.failures, "");
  EXPECT_EQ(sum.cells, 6 * 6 * 3 * 3 * 3);
  EXPECT_EQ(sum.run + sum.refused, sum.cells);
  EXPECT_EQ(sum.run, 6 * 6 * 7 + 6 * 2 * 3 * 2);  // all pairs: 3 layouts staged and zero-copy, one fused; two cast wires
}

}  // namespace
}  // namespace crossdock::testing
