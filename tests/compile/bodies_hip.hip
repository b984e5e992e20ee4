// SPDX-License-Identifier: Apache-2.0
// Every kernel body as clang compiles it for AMD GPUs, without ROCm.
#include "platform/hip/shim_device.hpp"

#include "platform/hip/hip_machine_device.hpp"

using TestedMachine = crossdock::platform::hip::HipMachine;

#include "tests/compile/every_body_device.hpp"
