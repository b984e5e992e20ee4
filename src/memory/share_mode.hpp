// SPDX-License-Identifier: Apache-2.0
// One mode of sharing memory for all ranks of a group.
#pragma once

#include <string>
#include <vector>

#include "platform/share.hpp"

namespace crossdock::memory {

struct ShareMode {
  platform::Share share = platform::Share::descriptor;
  std::string text;  ///< its name and why, such as "ipc: rank 1 ..."
};

/// From what every rank offers, in rank order: what CROSSDOCK_IPC names on any rank, else handles as soon as one rank
/// wants them. A function of its arguments alone, so that ranks that have gathered the same offers agree, on errors too:
/// ConfigError where ranks are told different modes, TopologyError where a rank lacks what it, or another, is told.
ShareMode agree_on_share_mode(const std::vector<platform::ShareOffer>& offers);

}  // namespace crossdock::memory
