// SPDX-License-Identifier: Apache-2.0
#include "cuda/launch.hpp"
#include "cuda/words_device.hpp"
#include "gpu/kernels_device.hpp"

namespace crossdock::tools::cuda {
namespace {

using namespace gpu;

#define XD_ENTRY(name, Arguments, threads) \
  __global__ void __launch_bounds__(threads, 1) name##_kernel(const Arguments arguments) { name(Words{}, arguments); }
XD_GPU_KERNELS(XD_ENTRY)
#undef XD_ENTRY

#define XD_ENTRY(name, Arguments, threads) reinterpret_cast<const void*>(&name##_kernel),
const void* const kEntries[] = {XD_GPU_KERNELS(XD_ENTRY)};
#undef XD_ENTRY

}  // namespace

cudaError_t load_kernels(int device) {
  for (const void* entry : kEntries) {
    cudaFuncAttributes ignored{};
    if (const cudaError_t error = cudaFuncGetAttributes(&ignored, entry)) return error;
  }
  return load_bulk_kernels(device);
}

cudaError_t launch(Kernel kernel, int blocks, int threads, cudaStream_t stream, const void* arguments) {
  void* parameters[] = {const_cast<void*>(arguments)};
  return cudaLaunchKernel(kEntries[static_cast<int>(kernel)], static_cast<unsigned>(blocks),
                          static_cast<unsigned>(threads), parameters, 0, stream);
}

}  // namespace crossdock::tools::cuda
