// SPDX-License-Identifier: Apache-2.0
// Every kernel body as clang compiles it for AMD GPUs, without ROCm.
#include "platform/hip/shim_device.hpp"

#include "platform/hip/hip_machine_device.hpp"

using TestedMachine = crossdock::platform::hip::HipMachine;
#define XD_MAX_THREADS 256  // one wave on each SIMD, with all its registers
#define XD_KERNEL_ARGS const

#include "tests/compile/every_body_device.hpp"
