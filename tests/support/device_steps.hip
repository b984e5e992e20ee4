// SPDX-License-Identifier: Apache-2.0
#include "platform/hip/shim_device.hpp"

#include "platform/hip/hip_machine_device.hpp"
#include "support/device_steps_device.hpp"

#define XD_ENTRY(name)                                                              \
  extern "C" __global__ void __launch_bounds__(crossdock::testing::kStepThreads, 1) \
      crossdock_tests_##name(const crossdock::testing::Step step) {                 \
    crossdock::platform::hip::HipMachine m;                                         \
    crossdock::testing::name(m, step);                                              \
  }
XD_STEPS(XD_ENTRY)
#undef XD_ENTRY
