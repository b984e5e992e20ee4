// SPDX-License-Identifier: Apache-2.0
// A build without nvcc: the tools run on the CPU only.
#include "machines.hpp"

namespace crossdock::tools {

std::shared_ptr<Machine> open_gpu_machine(BackendKind, const std::vector<int>&) { return nullptr; }

}  // namespace crossdock::tools
