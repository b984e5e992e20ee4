// SPDX-License-Identifier: Apache-2.0
// CUDA as tests use it. Empty in a build without it.
#pragma once

#ifdef CROSSDOCK_WITH_CUDA
#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace crossdock::testing {

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(std::string("tests, CUDA: ") + cudaGetErrorString(error));
}

/// The calling thread's own stream on its current device: where calls without a stream run.
cudaStream_t own_stream();

}  // namespace crossdock::testing
#endif
