// SPDX-License-Identifier: Apache-2.0
#include "memory/share_mode.hpp"

#include <algorithm>

#include "crossdock/error.hpp"

namespace crossdock::memory {
namespace {

using platform::Share;
using platform::ShareOffer;

const char* name_of(Share share) { return share == Share::descriptor ? "vmm" : "ipc"; }

std::string rank(std::size_t r) { return "rank " + std::to_string(r); }

/// The mode that CROSSDOCK_IPC sets on rank `by`.
ShareMode forced_mode(const std::vector<ShareOffer>& offers, std::size_t by) {
  const Share share = offers[by].wanted;
  for (std::size_t r = 0; r < offers.size(); ++r) {
    if (offers[r].forced && offers[r].wanted != share)
      throw ConfigError(std::string("Group::join: CROSSDOCK_IPC is ") + name_of(share) + " on " + rank(by) + " and " +
                        name_of(offers[r].wanted) + " on " + rank(r) + "; set it alike on every rank, or on none");
    if (share == Share::descriptor && !offers[r].has_descriptors)
      throw TopologyError("Group::join: CROSSDOCK_IPC is vmm on " + rank(by) + ", and the device of " + rank(r) +
                          " cannot export memory as a file descriptor; set automatic or ipc");
  }
  return {share, std::string(name_of(share)) + ": CROSSDOCK_IPC says so on " + rank(by)};
}

}  // namespace

ShareMode agree_on_share_mode(const std::vector<ShareOffer>& offers) {
  const auto first = [&](auto which) {
    return static_cast<std::size_t>(std::find_if(offers.begin(), offers.end(), which) - offers.begin());
  };
  const std::size_t forced = first([](const ShareOffer& o) { return o.forced; });
  if (forced < offers.size()) return forced_mode(offers, forced);
  const std::size_t without = first([](const ShareOffer& o) { return !o.has_descriptors; });
  if (without < offers.size())
    return {Share::handle, "ipc: the device of " + rank(without) + " cannot export memory as a file descriptor"};
  if (first([](const ShareOffer& o) { return o.wanted == Share::handle; }) < offers.size())
    return {Share::handle, "ipc: what these devices do best"};
  return {Share::descriptor, "vmm: every rank can export its memory as a file descriptor"};
}

}  // namespace crossdock::memory
