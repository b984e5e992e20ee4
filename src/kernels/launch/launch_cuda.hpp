// SPDX-License-Identifier: Apache-2.0
// Launches on NVIDIA GPUs. A body, a kernel written as a function template over a machine, becomes a __global__
// function.
#pragma once

#include <cuda_runtime.h>

#include "crossdock/error.hpp"
#include "kernels/launch/launch.hpp"
#include "platform/cuda/cuda_machine_device.hpp"

namespace crossdock::kernels::cuda {

using platform::kMaxThreads;

/// `Body::run(machine, shared, args)` as a kernel.
template <class Body, class Args>
__global__ void __launch_bounds__(kMaxThreads, 1) kernel(const __grid_constant__ Args args) {
  __shared__ alignas(16) unsigned char shared[sizeof(typename Body::Shared)];  // raw bytes: Shared has initialisers
  platform::cuda::wait_for_prior_kernels();
  platform::cuda::CudaMachine machine;
  Body::run(machine, reinterpret_cast<typename Body::Shared&>(shared), args);
}

/// Whether the kernel itself waits for earlier kernels. wait_for_prior_kernels() does so only in code for sm_90 and
/// later, and the device may run code for an older architecture.
template <class Body, class Args>
bool awaits_earlier_kernels() {
  static const bool known = [] {
    constexpr int kFirst = 90;
    cudaFuncAttributes attributes{};
    const bool answered = cudaFuncGetAttributes(&attributes, kernel<Body, Args>) == cudaSuccess;
    return answered && attributes.ptxVersion >= kFirst;
  }();
  return known;
}

/// Launches with programmatic stream serialization where allowed: the device sets up this kernel while the one before
/// it in the stream still ends (docs/adr/0015-early-launches.md).
template <class Body, class Args>
void launch(platform::Geometry geometry, StreamHandle stream, const Args& args) {
  void* parameters[] = {const_cast<Args*>(&args)};
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(geometry.num_blocks);
  config.blockDim = dim3(geometry.num_threads);
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &early;
  config.numAttrs = may_launch_early(args) && awaits_earlier_kernels<Body, Args>() ? 1 : 0;
  const cudaError_t error = cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel<Body, Args>), parameters);
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // resets it, so that the caller's cudaGetLastError does not return this error
  throw SystemError(std::string(Body::kName) + ": the kernel launch failed: " + cudaGetErrorString(error));
}

/// Blocks of `num_threads` that fit on the current device at once.
template <class Body, class Args>
int resident_blocks(int num_threads) {
  int device = 0, sms = 0, per_sm = 0;
  (void)awaits_earlier_kernels<Body, Args>();  // queried now, so that the first launch does not query it
  if (cudaGetDevice(&device) != cudaSuccess ||
      cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, device) != cudaSuccess ||
      cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, kernel<Body, Args>, num_threads, 0) != cudaSuccess) {
    const cudaError_t error = cudaGetLastError();
    throw SystemError(std::string("occupancy of ") + Body::kName + ": " + cudaGetErrorString(error));
  }
  return sms * per_sm;
}

}  // namespace crossdock::kernels::cuda
