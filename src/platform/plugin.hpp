// SPDX-License-Identifier: Apache-2.0
// A machine in a library of its own, loaded when it is first asked for: one install serves machines with and without its
// driver. The file is libcrossdock_<backend>.so, in CROSSDOCK_PLUGIN_DIR or beside this library.
#pragma once

#include "platform/device.hpp"

namespace crossdock::platform {

/// What a plug-in exports as `crossdock_plugin`.
struct Plugin {
  const char* version;  ///< of the library it was built with; the other members exist only if it is the same
  int (*num_devices)(const char** note);
  std::shared_ptr<Device> (*open_device)(int ordinal);
  const void* (*launches)();  ///< kernels::LaunchTable
};

/// The plug-in of a backend, or null with a reason in `*note`, which lives for ever. Never throws.
const Plugin* find_plugin(BackendKind kind, const char** note);

}  // namespace crossdock::platform
