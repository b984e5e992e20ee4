// SPDX-License-Identifier: Apache-2.0
// How long it takes to make a group and an exchange: of processes that share nothing but a name.
#pragma once

#include <vector>

#include "problem/problem.hpp"

namespace crossdock::tools {

/// From the first rank that begins to the last that is done, µs, one per repetition.
struct CreationTimes {
  std::vector<double> group_us, exchange_us;
};

/// Each repetition starts processes of its own, which take some memory of their device first, so that their contexts exist.
/// This process must not have spoken to a driver, for it forks.
CreationTimes time_creation(const Problem& problem, BackendKind backend, const std::vector<int>& devices, int repeat);

}  // namespace crossdock::tools
