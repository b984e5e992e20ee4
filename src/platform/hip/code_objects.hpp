// SPDX-License-Identifier: Apache-2.0
// Compiled device code, one object per architecture, carried by this library and loaded when a device is first used.
#pragma once

#include <cstddef>

#include "platform/hip/driver.hpp"

namespace crossdock::platform::hip {

struct CodeObject {
  const char* architecture;  ///< "gfx942"
  const unsigned char* bytes;
  const unsigned char* end;
};

/// All that the build was asked for; the last has no architecture.
extern const CodeObject kCodeObjects[];

/// The one for a device. TopologyError if there is none, naming those that there are.
const CodeObject& code_object_of(int ordinal);

/// Loads the code on the current device.
hipModule_t load(const CodeObject& code);
/// Kernel `name` of the code that is loaded on the current device as `module`.
hipFunction_t kernel_of(hipModule_t module, const char* name);

}  // namespace crossdock::platform::hip
