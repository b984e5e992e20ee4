// SPDX-License-Identifier: Apache-2.0
// Passes a file descriptor of every rank's memory to every other rank, between processes of one user. Connections are
// authenticated by secrets, which the ranks have exchanged by an all-gather.
#pragma once

#include <chrono>
#include <vector>

#include "crossdock/group.hpp"
#include "platform/system/unique_fd.hpp"

namespace crossdock::memory {

class DescriptorExchange {
 public:
  /// Stores a copy of `all_gather`. `deadline` 0: no limit.
  DescriptorExchange(AllGather all_gather, int rank, int num_ranks, std::chrono::milliseconds deadline);

  /// Returns descriptors of every peer's `my_fd`, close-on-exec, in rank order. This rank's entry is empty, and so is
  /// that of a rank that passed -1. `my_fd` stays the caller's. Collective, any number of times. Throws on all ranks
  /// the same class, or on none: peer_lost (names the ranks that did not answer within the deadline), system; or what
  /// the all-gather throws.
  std::vector<platform::system::UniqueFd> exchange(int my_fd);

 private:
  AllGather all_gather_;
  int rank_, num_ranks_;
  std::chrono::milliseconds deadline_;
};

}  // namespace crossdock::memory
