// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "litmus/pairs.hpp"

namespace crossdock::litmus {

int run_on_cuda(const Options& options);
int run_on_hip(const Options& options);

}  // namespace crossdock::litmus
