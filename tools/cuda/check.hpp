// SPDX-License-Identifier: Apache-2.0
// CUDA calls with their refusals as exceptions.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace crossdock::tools::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  throw std::runtime_error(std::string(what) + " failed: " + cudaGetErrorString(error));
}

}  // namespace crossdock::tools::cuda
