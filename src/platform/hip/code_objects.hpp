// SPDX-License-Identifier: Apache-2.0
// Compiled device code, one object per architecture, embedded in this library and loaded at the first use of a device.
#pragma once

#include <cstddef>

#include "platform/hip/driver.hpp"

namespace crossdock::platform::hip {

struct CodeObject {
  const char* architecture;  ///< "gfx942"
  const unsigned char* bytes;
  const unsigned char* end;
};

/// All code objects of the build; a null architecture ends the array.
extern const CodeObject kCodeObjects[];

/// The code object for a device. TopologyError, which lists the available ones, if there is none.
const CodeObject& code_object_of(int ordinal);

/// Loads the code on the current device.
hipModule_t load(const CodeObject& code);
/// Kernel `name` of `module`, which must be loaded on the current device.
hipFunction_t kernel_of(hipModule_t module, const char* name);

}  // namespace crossdock::platform::hip
