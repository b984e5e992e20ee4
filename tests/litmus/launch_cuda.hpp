// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "litmus/patterns.hpp"

namespace crossdock::litmus {

cudaError_t launch_on_cuda(int blocks, cudaStream_t stream, const Loop* loop);

}  // namespace crossdock::litmus
