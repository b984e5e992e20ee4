// SPDX-License-Identifier: Apache-2.0
// Which machines beside the CPU this build of the tools holds.
#pragma once

#include "machine.hpp"

namespace crossdock::tools {

/// Null if this build has none of that kind. In cuda/machine.cpp, or in machines_none.cpp where there is no nvcc.
std::shared_ptr<Machine> open_gpu_machine(BackendKind kind, const std::vector<int>& devices);

}  // namespace crossdock::tools
