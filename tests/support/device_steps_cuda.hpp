// SPDX-License-Identifier: Apache-2.0
// The steps as NVIDIA kernels.
#pragma once

#include <cuda_runtime_api.h>

#include "support/device_steps.hpp"

namespace crossdock::testing::cuda {

cudaError_t launch_step(StepKind kind, int blocks, int threads, cudaStream_t stream, const Step* step);

}  // namespace crossdock::testing::cuda
