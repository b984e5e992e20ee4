// SPDX-License-Identifier: Apache-2.0
#include "support/fiber_table.hpp"

namespace crossdock::testing {

const kernels::LaunchTable& fiber_launches_64() {
  static const kernels::LaunchTable table = make_fiber_launches<64>();
  return table;
}

const FiberRuns& fiber_runs_64() {
  static const FiberRuns runs = make_fiber_runs<64>();
  return runs;
}

}  // namespace crossdock::testing
