// SPDX-License-Identifier: Apache-2.0
// A sequence of calls that all ranks make, each at its own pace, every delivery and every result compared with the oracle.
#pragma once

#include <string>
#include <vector>

#include "support/harness.hpp"

namespace crossdock::testing {

enum class Do {
  dispatch,       ///< routes with `routing`; the Received joins those in flight
  replay,         ///< dispatch along kept plan `which` with another payload
  keep,           ///< keeps the plan of Received `which`
  combine,        ///< consumes Received `which`
  combine_plan,   ///< along kept plan `which`
  drop_received,  ///< destroys Received `which` without combine
  drop_plan,      ///< destroys kept plan `which`
};

struct Step {
  Do what;
  int which = 0;              ///< index among those alive, oldest first
  std::uint64_t routing = 0;  ///< seed of ids and weights
  std::uint64_t payload = 0;  ///< seed of rows, scales and expert outputs; 0: that of the routing
};

/// A random script of legal steps for the max_in_flight and max_kept_plans of `test`.
std::vector<Step> random_script(const TestCase& test, std::uint64_t seed, int num_steps);
std::string text_of(const std::vector<Step>& script);

/// Runs it on all ranks; `skew` lets every rank sleep a random time before each step. Empty if all is well.
std::string run_script(const TestCase& test, const std::vector<Step>& script, bool skew);

}  // namespace crossdock::testing
