// SPDX-License-Identifier: Apache-2.0
#include "kernels/launch/launch.hpp"

#include "crossdock/error.hpp"
#include "platform/plugin.hpp"

namespace crossdock::kernels {

// built_machines.def is written by CMake: one XD_MACHINE(name) for each machine in this library.
#define XD_MACHINE(name)         \
  namespace name {               \
  const LaunchTable& launches(); \
  }
#include "built_machines.def"
#undef XD_MACHINE

const LaunchTable& launches_of(BackendKind kind) {
#define XD_MACHINE(name) \
  if (kind == BackendKind::name) return name::launches();
#include "built_machines.def"
#undef XD_MACHINE
  const char* note = nullptr;
  if (const platform::Plugin* plugin = platform::find_plugin(kind, &note))
    return *static_cast<const LaunchTable*>(plugin->launches());
  throw TopologyError("no kernels for backend " + std::string(name_of(kind)) + ": " + note);
}

}  // namespace crossdock::kernels
