// SPDX-License-Identifier: Apache-2.0
// What nvcc compiles of the tools.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "gpu/methods.hpp"

namespace crossdock::tools::cuda {

/// `arguments`: what the list of kernels says.
cudaError_t launch(gpu::Kernel kernel, int blocks, int threads, cudaStream_t stream, const void* arguments);

/// Loads all kernels on the current device, which is number `device`, before any runs: the first launch of a kernel takes
/// memory that peers map, and waits for their kernels.
cudaError_t load_kernels(int device);
cudaError_t load_bulk_kernels(int device);

/// Copies by the copy unit of a multiprocessor; none before compute capability 9.0.
std::vector<gpu::Method> bulk_methods(int device);

}  // namespace crossdock::tools::cuda
