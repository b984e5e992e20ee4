// SPDX-License-Identifier: Apache-2.0
// The ways in which a device can share memory with other processes. memory/share_mode.hpp chooses one for all ranks.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include "crossdock/error.hpp"

namespace crossdock::platform {

/// `none`: not shared. `descriptor`: memory of the driver's virtual memory management, shared as a file descriptor;
/// CROSSDOCK_IPC and error texts call it vmm. `handle`: by an IPC handle of the driver; there it is called ipc.
enum class Share : std::uint8_t { none, descriptor, handle };

/// What a rank's device supports; gathered from all ranks when a group forms. Crosses processes as bytes.
struct ShareOffer {
  Share wanted;          ///< descriptor or handle
  bool forced;           ///< by CROSSDOCK_IPC
  bool has_descriptors;  ///< whether its memory can be exported as a file descriptor
};

/// The offer of a device. It wants the mode that CROSSDOCK_IPC sets; if that is automatic, `usual`, or handles if the
/// device cannot export descriptors. ConfigError if CROSSDOCK_IPC has another value.
inline ShareOffer share_offer(Share usual, bool has_descriptors) {
  const char* value = std::getenv("CROSSDOCK_IPC");
  const std::string share = value && *value ? value : "automatic";
  if (share == "vmm") return {Share::descriptor, true, has_descriptors};
  if (share == "ipc") return {Share::handle, true, has_descriptors};
  if (share == "automatic") return {has_descriptors ? usual : Share::handle, false, has_descriptors};
  throw ConfigError("CROSSDOCK_IPC = `" + share + "`; must be automatic, vmm or ipc");
}

}  // namespace crossdock::platform
