// SPDX-License-Identifier: Apache-2.0
// Chooses between the codec's arithmetic and a machine's conversion instructions. By default every conversion is the
// codec's. A machine with instructions defines XD_OWN_CONVERSIONS and its own Conversion before the bodies are
// included.
#pragma once

#include "crossdock/types.hpp"

#if !defined(XD_OWN_CONVERSIONS)
namespace crossdock::platform {

/// The conversion of a dtype. `Software` is the codec's, with `widen` and `narrow`.
template <Dtype, class Software>
using Conversion = Software;

}  // namespace crossdock::platform
#endif
