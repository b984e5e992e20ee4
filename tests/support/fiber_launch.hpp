// SPDX-License-Identifier: Apache-2.0
// The kernel bodies of an exchange with real lanes: a launch table whose launches run on fibers instead of the CPU's
// single thread, with a geometry of the test's choice.
#pragma once

#include "crossdock/exchange.hpp"
#include "fiber/fiber_launch.hpp"
#include "kernels/launch/launch.hpp"
#include "support/test_case.hpp"

namespace crossdock::testing {

/// From now on `exchange` runs its kernels as `executor` says (width 32 or 64). Each launch draws its own order. With
/// `multiprocessors`, which must outlive the exchange, blocks share them with the blocks of other launches.
void use_fibers(Exchange& exchange, const Executor& executor, Multiprocessors* multiprocessors = nullptr);

struct FiberExecutor : Executor {
  Multiprocessors* multiprocessors = nullptr;
};
/// The executor that was set for the exchange whose memory of this rank begins at `base`, its seed moved on by one launch.
FiberExecutor executor_at(const std::byte* base);

const kernels::LaunchTable& fiber_launches_32();
const kernels::LaunchTable& fiber_launches_64();

/// The bodies themselves, run on fibers before the call returns.
template <class Args>
using FiberRun = void (*)(platform::Geometry, const FiberOptions&, const Args&);
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
