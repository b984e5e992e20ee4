// SPDX-License-Identifier: Apache-2.0
// What the two compilers of the HIP machine share. Device code (launch_hip.hip) is compiled apart, loaded at run time, and
// its kernels are found by name: crossdock_ and the name of the body, of combine with rows and wire of instances.def.
#pragma once

namespace crossdock::kernels::hip {

/// Of a block: with one block on a compute unit there are registers enough for each body.
inline constexpr int kMostThreads = 512;

}  // namespace crossdock::kernels::hip
