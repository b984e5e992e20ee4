// SPDX-License-Identifier: Apache-2.0
#include "platform/cuda/cuda_machine_device.hpp"
#include "support/device_steps_cuda.hpp"
#include "support/device_steps_device.hpp"

namespace crossdock::testing::cuda {
namespace {

#define XD_ENTRY(name)                                                             \
  __global__ void __launch_bounds__(kStepThreads) name##_kernel(const Step step) { \
    platform::cuda::CudaMachine m;                                                 \
    name(m, step);                                                                 \
  }
XD_STEPS(XD_ENTRY)
#undef XD_ENTRY

}  // namespace

cudaError_t launch_step(StepKind kind, int blocks, int threads, cudaStream_t stream, const Step* step) {
#define XD_ENTRY(name) name##_kernel,
  void (*const kEntries[])(Step) = {XD_STEPS(XD_ENTRY)};
#undef XD_ENTRY
  kEntries[static_cast<int>(kind)]<<<blocks, threads, 0, stream>>>(*step);
  return cudaGetLastError();
}

}  // namespace crossdock::testing::cuda
