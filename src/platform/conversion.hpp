// SPDX-License-Identifier: Apache-2.0
// Which conversions of numbers a machine does by instructions of its own. None: the codec's arithmetic is the same on every
// machine. AMD GPUs have some, behind CROSSDOCK_HIP_HARDWARE_CONVERSIONS, which is off until every code was compared there.
#pragma once

#include "crossdock/types.hpp"

#if defined(__HIP__) && defined(XD_HIP_HARDWARE_CONVERSIONS)
#include "platform/hip/conversion_device.hpp"
#else
namespace crossdock::platform {

/// What converts a dtype, given what does so in software: `Software::widen`, `Software::narrow`.
template <Dtype, class Software>
using Conversion = Software;

}  // namespace crossdock::platform
#endif
