// SPDX-License-Identifier: Apache-2.0
// How far combine is from exact sums: what its wire and the rounding of its result cost.
#pragma once

#include <vector>

#include "problem/problem.hpp"

namespace crossdock::tools {

/// |results - exact sums of the expert outputs| / |exact sums|, Euclidean norms over some tokens of every rank.
double relative_error(const Data& data, const std::vector<oracle::RankResult>& results);

}  // namespace crossdock::tools
