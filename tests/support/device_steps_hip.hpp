// SPDX-License-Identifier: Apache-2.0
// The steps as AMD kernels; device_steps_code.cpp, which CMake writes, has them.
#pragma once

#include "hip/code.hpp"

namespace crossdock::testing::hip {

using tools::hip::CodeObject;
extern const CodeObject kStepsCode[];

}  // namespace crossdock::testing::hip
