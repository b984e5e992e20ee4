// SPDX-License-Identifier: Apache-2.0
#include "kernels/launch.hpp"

#include "crossdock/error.hpp"

namespace crossdock::kernels {

namespace cpu {
const LaunchTable& launches();
}

const LaunchTable& launches_of(BackendKind kind) {
  if (kind == BackendKind::cpu) return cpu::launches();
  throw TopologyError("no kernels for backend " + std::string(name_of(kind)) + " in this library");
}

}  // namespace crossdock::kernels
