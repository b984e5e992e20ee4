// SPDX-License-Identifier: Apache-2.0
// The tools' kernels for AMD GPUs, found by name. Compiled once per architecture into a code object that the command carries.
#include "hip/words_device.hpp"

#include "gpu/kernels_device.hpp"

using namespace crossdock::tools;
using namespace crossdock::tools::gpu;

#define XD_ENTRY(name, Arguments, threads)                                                                 \
  extern "C" __attribute__((global, amdgpu_flat_work_group_size(1, threads))) void crossdock_tools_##name( \
      const Arguments arguments) {                                                                         \
    name(hip::Words{}, arguments);                                                                         \
  }
XD_GPU_KERNELS(XD_ENTRY)
#undef XD_ENTRY
