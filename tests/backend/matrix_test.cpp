// SPDX-License-Identifier: Apache-2.0
// Every cell of the feature matrix, bit for bit on every rank: on the whole host where there are GPUs.
#include "backend/matrix.hpp"

#include <gtest/gtest.h>

#include "platform/cpu/sanitizers.hpp"
#include "support/instances.hpp"
#include "support/processes.hpp"

namespace crossdock::testing {
namespace {

/// Under sanitizers each cell has one of its variants, another one from cell to cell.
std::vector<TestCase> scalar_cases(const Cell& cell, int idx) {
  static const int num_ranks = ranks_with_devices(kMaxRanks);
  std::vector<TestCase> cases;
  for (int variant = 0; variant < kNumVariants; ++variant)
    if (!(XD_ASAN || XD_TSAN) || variant == idx % kNumVariants) cases.push_back(case_of(cell, variant, num_ranks));
  return cases;
}

TEST(Matrix, EveryCellRunsOrIsRefusedWithAReason) {
  const Summary sum = walk(all_cells(), scalar_cases);
  EXPECT_EQ(sum.failures, "");
  EXPECT_EQ(sum.cells, 6 * 6 * 3 * 3 * 3);
  EXPECT_EQ(sum.run + sum.refused + sum.left_out, sum.cells);
  EXPECT_EQ(sum.run, num_cells_that_run());
  // All pairs: three layouts staged and zero-copy, one fused; and two cast wires.
  EXPECT_EQ(sum.run + sum.left_out, 6 * 6 * 7 + 6 * 2 * 3 * 2);
  EXPECT_EQ(sum.left_out > 0, std::size(kBuiltInstances) < std::size(kInstances));
}

/// The cells that run, by a rank that is a process: one group, an exchange a case. Gives what was wrong.
std::string walk_in_a_process(const std::string& name, int rank_idx, int num_ranks) {
  const BackendKind backend = backend_of_tests();
  use_device(backend, rank_idx);
  Group group = Group::rendezvous(name, rank_idx, num_ranks, options_of(backend, rank_idx));
  Log log;
  int idx = 0;
  for (const Cell& cell : all_cells()) {
    if (!refusal_of(cell).empty() || is_left_out(cell)) continue;
    for (int variant = 0; variant < kNumVariants; ++variant) {
      if (backend == BackendKind::cpu && variant != idx % kNumVariants) continue;
      const TestCase test = case_of(cell, variant, num_ranks);
      Rank rank(test, std::move(group), log);
      rank.run(answers_of(test));
      group = std::move(rank.group);
      if (!log.empty()) return log.text() + "case: " + text_of(test);
    }
    ++idx;
  }
  return idx == num_cells_that_run() ? "" : std::to_string(idx) + " cells";
}

TEST(Matrix, EveryCellAsProcesses) {
  const RuntimeDir dir;
  const std::string name = unique_name();
  const int ranks = ranks_with_devices(kMaxRanks);
  for (const ProcessReport& report : run_processes(
           ranks, [&](int r) { return walk_in_a_process(name, r, ranks); }, {}, 240)) {
    EXPECT_EQ(report.text, "");
    EXPECT_EQ(report.exit_status, 0);
  }
}

}  // namespace
}  // namespace crossdock::testing
