// SPDX-License-Identifier: Apache-2.0
#include "cuda/runtime.hpp"
#include "support/device_steps_cuda.hpp"
#include "support/gpu_machine.hpp"

namespace crossdock::testing {

const Machine& cuda_machine() { return GpuMachine<tools::cuda::Runtime>::table<cuda::launch_step>; }

}  // namespace crossdock::testing
