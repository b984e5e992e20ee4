// SPDX-License-Identifier: Apache-2.0
// Every kernel body as nvcc compiles it for NVIDIA GPUs.
#include "platform/cuda/cuda_machine_device.hpp"

using TestedMachine = crossdock::platform::cuda::CudaMachine;
#define XD_MAX_THREADS crossdock::platform::kMaxThreads
#define XD_KERNEL_ARGS const __grid_constant__  // arguments are read where they arrive, not copied

#include "tests/compile/every_body_device.hpp"
