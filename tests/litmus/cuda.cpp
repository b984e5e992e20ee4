// SPDX-License-Identifier: Apache-2.0
#include "cuda/runtime.hpp"
#include "litmus/launch_cuda.hpp"
#include "litmus/main.hpp"

namespace crossdock::litmus {

int run_on_cuda(const Options& options) { return run_all<tools::cuda::Runtime, launch_on_cuda>(options, true); }

}  // namespace crossdock::litmus
