// SPDX-License-Identifier: Apache-2.0
// Shared by the host and the device code of the HIP machine, which different compilers translate. The device code
// (launch_hip.hip) is loaded at run time, and its kernels are found by name: crossdock_ and the name of the body; for
// combine, dtype and combine_quant of instances.def follow.
#pragma once

#include "platform/machine.hpp"

namespace crossdock::kernels::hip {

using platform::kMaxThreads;

}  // namespace crossdock::kernels::hip
