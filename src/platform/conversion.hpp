// SPDX-License-Identifier: Apache-2.0
// Chooses how a code of a dtype becomes f32 and back: by the arithmetic in src/codec, which is the default, or by the
// device's conversion instructions. For the latter, a machine defines XD_OWN_CONVERSIONS and its own Conversion before
// the bodies are included.
#pragma once

#include "crossdock/types.hpp"

#if !defined(XD_OWN_CONVERSIONS)
namespace crossdock::platform {

/// The conversion of a dtype. `Software` is the codec's, with `widen` and `narrow`.
template <Dtype, class Software>
using Conversion = Software;

}  // namespace crossdock::platform
#endif
