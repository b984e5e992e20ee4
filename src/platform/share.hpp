// SPDX-License-Identifier: Apache-2.0
// How memory of a device gets to other processes: what one device offers. Ranks agree on one mode in
// memory/share_mode.hpp.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

#include "crossdock/error.hpp"

namespace crossdock::platform {

/// `none`: it need not.
enum class Share : std::uint8_t { none, descriptor, handle };

/// What a device says when a group forms. Crosses processes as bytes.
struct ShareOffer {
  Share wanted;          ///< descriptor or handle
  bool forced;           ///< by CROSSDOCK_IPC
  bool has_descriptors;  ///< whether its memory can be exported as a file descriptor
};

/// By CROSSDOCK_IPC, else `usual`, else what the device has.
inline ShareOffer share_offer(Share usual, bool has_descriptors) {
  const char* value = std::getenv("CROSSDOCK_IPC");
  const std::string share = value && *value ? value : "automatic";
  if (share == "vmm") return {Share::descriptor, true, has_descriptors};
  if (share == "ipc") return {Share::handle, true, has_descriptors};
  if (share == "automatic") return {has_descriptors ? usual : Share::handle, false, has_descriptors};
  throw ConfigError("CROSSDOCK_IPC = `" + share + "`; must be automatic, vmm or ipc");
}

}  // namespace crossdock::platform
