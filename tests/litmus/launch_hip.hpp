// SPDX-License-Identifier: Apache-2.0
// The loops for AMD GPUs; litmus_code.cpp, which CMake writes, has them.
#pragma once

#include "hip/code.hpp"

namespace crossdock::litmus {

using tools::hip::CodeObject;
extern const CodeObject kLitmusCode[];

}  // namespace crossdock::litmus
