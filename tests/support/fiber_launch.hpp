// SPDX-License-Identifier: Apache-2.0
// The kernel bodies of an exchange with real lanes: a launch table whose launches run on fibers instead of the CPU's
// single thread, with a geometry of the test's choice.
#pragma once

#include "crossdock/exchange.hpp"
#include "kernels/launch.hpp"
#include "support/test_case.hpp"

namespace crossdock::testing {

/// From now on `exchange` runs its kernels as `executor` says (width 32 or 64). Each launch draws its own order.
void use_fibers(Exchange& exchange, const Executor& executor);

/// The executor that was set for the exchange whose memory of this rank begins at `base`, its seed moved on by one launch.
Executor executor_at(const std::byte* base);

const kernels::LaunchTable& fiber_launches_32();
const kernels::LaunchTable& fiber_launches_64();

/// Inside of an exchange; for tests that look where no caller may.
detail::ExchangeState& state_of(Exchange& exchange);

}  // namespace crossdock::testing
