// SPDX-License-Identifier: Apache-2.0
// Which conversions of numbers a machine does by instructions of its own. None: the codec's arithmetic is the same on every
// machine. One that has them defines XD_OWN_CONVERSIONS and Conversion before the bodies are included.
#pragma once

#include "crossdock/types.hpp"

#if !defined(XD_OWN_CONVERSIONS)
namespace crossdock::platform {

/// What converts a dtype, given what does so in software: `Software::widen`, `Software::narrow`.
template <Dtype, class Software>
using Conversion = Software;

}  // namespace crossdock::platform
#endif
