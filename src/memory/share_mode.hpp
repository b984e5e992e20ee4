// SPDX-License-Identifier: Apache-2.0
// The mode in which all ranks of a group share memory between processes: `vmm`, by file descriptors, or `ipc`, by IPC
// handles of the driver.
#pragma once

#include <string>
#include <vector>

#include "platform/share.hpp"

namespace crossdock::memory {

struct ShareMode {
  platform::Share share = platform::Share::descriptor;
  std::string text;  ///< name and reason, such as "ipc: the device of rank 1 ..."
};

/// Chooses the mode from the offers of all ranks, in rank order: the mode that CROSSDOCK_IPC sets on any rank; else
/// handles if any rank prefers them or has no descriptors; else descriptors. Pure, so all ranks get the same result or
/// error. ConfigError if CROSSDOCK_IPC differs between ranks, TopologyError if a rank does not support the mode that it
/// sets.
ShareMode agree_on_share_mode(const std::vector<platform::ShareOffer>& offers);

}  // namespace crossdock::memory
