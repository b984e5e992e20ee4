// SPDX-License-Identifier: Apache-2.0
// The feature matrix, walked from the lists themselves: every dtype of dispatch and combine, layout, path and wire. A cell
// runs, or is refused with the reason that the contract gives; one that does neither is a failure. The machine is a
// parameter.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "support/harness.hpp"

namespace crossdock::testing {

struct Cell {
  Dtype dispatch_dtype, combine_dtype;
  Layout layout;
  Path path;
  CombineQuant combine_quant;
};

std::vector<Cell> all_cells();
std::string text_of(const Cell& cell);

/// Part of the reason for which the contract refuses a cell; empty: it must run.
std::string refusal_of(const Cell& cell);
/// The contract takes it, but this build has no such combine, see support/instances.hpp.
bool is_left_out(const Cell& cell);
/// Of all_cells(), counted from the list of instances.
int num_cells_that_run();

/// A small case of the cell, different in all that the cell leaves open for each `variant`. Variants 0 to 7 cover scales of
/// 0, 1, 7 and 224 bytes with and without weights. Ranks have unequal numbers of tokens and experts.
inline constexpr int kNumVariants = 8;
TestCase case_of(const Cell& cell, int variant, int num_ranks);

struct Summary {
  int cells = 0, run = 0, refused = 0, left_out = 0, cases = 0;
  std::string failures;  ///< empty: every cell did what it must
};

/// Walks `cells`, prints one line each, runs the cases that `variants` gives for a cell.
Summary walk(const std::vector<Cell>& cells,
             const std::function<std::vector<TestCase>(const Cell&, int idx)>& variants);

}  // namespace crossdock::testing
