// SPDX-License-Identifier: Apache-2.0
// The ways in which a device can share memory with other processes. memory/share_mode.hpp chooses one for all ranks.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include "crossdock/error.hpp"

namespace crossdock::platform {

/// `none`: not shared. `descriptor`: as a file descriptor. `handle`: by an IPC handle of the driver.
enum class Share : std::uint8_t { none, descriptor, handle };

/// What a rank's device supports; gathered from all ranks when a group forms. Crosses processes as bytes.
struct ShareOffer {
  Share wanted;          ///< descriptor or handle
  bool forced;           ///< by CROSSDOCK_IPC
  bool has_descriptors;  ///< whether its memory can be exported as a file descriptor
};

/// The offer of a device: the mode that CROSSDOCK_IPC sets; else `usual`, or handles if the device has no descriptors.
inline ShareOffer share_offer(Share usual, bool has_descriptors) {
  const char* value = std::getenv("CROSSDOCK_IPC");
  const std::string share = value && *value ? value : "automatic";
  if (share == "vmm") return {Share::descriptor, true, has_descriptors};
  if (share == "ipc") return {Share::handle, true, has_descriptors};
  if (share == "automatic") return {has_descriptors ? usual : Share::handle, false, has_descriptors};
  throw ConfigError("CROSSDOCK_IPC = `" + share + "`; must be automatic, vmm or ipc");
}

}  // namespace crossdock::platform
