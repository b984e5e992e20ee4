// SPDX-License-Identifier: Apache-2.0
// What the two compilers of the HIP machine share. Device code (launch_hip.hip) is compiled apart, loaded at run time, and
// its kernels are found by name: crossdock_ and the name of the body, of combine with rows and wire of instances.def.
#pragma once

#include "platform/machine.hpp"

namespace crossdock::kernels::hip {

using platform::kMaxThreads;

}  // namespace crossdock::kernels::hip
