// SPDX-License-Identifier: Apache-2.0
// Backends in shared libraries of their own, loaded at first use: one installation serves hosts with and without their
// driver. The file is libcrossdock_<backend>.so, in CROSSDOCK_PLUGIN_DIR or in the folder of this library.
#pragma once

#include "platform/device.hpp"

namespace crossdock::platform {

/// The symbol `crossdock_plugin` that a plug-in exports.
struct Plugin {
  const char* version;  ///< CROSSDOCK_VERSION of its build; if it differs, the other members must not be read
  int (*num_devices)(const char** note);
  std::shared_ptr<Device> (*open_device)(int ordinal);
  const void* (*launches)();  ///< kernels::LaunchTable
};

/// The plug-in of a backend, or null with the reason in `*note`, which has static storage. Never throws.
const Plugin* find_plugin(BackendKind kind, const char** note);

}  // namespace crossdock::platform
