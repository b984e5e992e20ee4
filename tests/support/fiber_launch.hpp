// SPDX-License-Identifier: Apache-2.0
// The kernel bodies of an exchange with real lanes: a launch table whose launches run on fibers instead of the CPU's
// single thread, with a geometry of the test's choice.
#pragma once

#include "crossdock/exchange.hpp"
#include "kernels/launch/launch.hpp"
#include "support/test_case.hpp"

namespace crossdock::testing {

/// From now on `exchange` runs its kernels as `executor` says (width 32 or 64). Each launch draws its own order.
void use_fibers(Exchange& exchange, const Executor& executor);

/// The executor that was set for the exchange whose memory of this rank begins at `base`, its seed moved on by one launch.
Executor executor_at(const std::byte* base);

const kernels::LaunchTable& fiber_launches_32();
const kernels::LaunchTable& fiber_launches_64();

/// The bodies themselves, run on fibers before the call returns. `seed`: order of fibers, 0 in turns.
template <class Args>
using FiberRun = void (*)(platform::Geometry, std::uint64_t seed, const Args&);
struct FiberRuns {
  FiberRun<kernels::DispatchArgs> dispatch;
  FiberRun<kernels::ExpertRowsArgs> expert_rows;
  FiberRun<kernels::CombineArgs> combine[kernels::kNumDtypes][kernels::kNumCombineQuants]
                                        [2];  // [rows][wire][by expert]
};
const FiberRuns& fiber_runs_64();

/// Inside of an exchange; for tests that look where no caller may.
detail::ExchangeState& state_of(Exchange& exchange);

}  // namespace crossdock::testing
