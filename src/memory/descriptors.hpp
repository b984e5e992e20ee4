// SPDX-License-Identifier: Apache-2.0
// File descriptors of every rank's memory, handed to every other rank: between processes of one user, each proven by a
// secret that only members of the group have gathered.
#pragma once

#include <chrono>
#include <vector>

#include "crossdock/group.hpp"
#include "platform/system/unique_fd.hpp"

namespace crossdock::memory {

class DescriptorExchange {
 public:
  /// Keeps a copy of `all_gather`. `deadline` 0 = no limit.
  DescriptorExchange(AllGather all_gather, int rank, int num_ranks, std::chrono::milliseconds deadline);

  /// Collective, any number of times. Gives a descriptor of every peer's `my_fd`, close-on-exec, in rank order; the own
  /// entry is empty, and that of a rank that passed -1. `my_fd` stays the caller's. Throws one class on all ranks, or on
  /// none: peer_lost (names the ranks that did not answer within the deadline), system; or what the all-gather throws.
  std::vector<platform::system::UniqueFd> exchange(int my_fd);

 private:
  AllGather all_gather_;
  int rank_, num_ranks_;
  std::chrono::milliseconds deadline_;
};

}  // namespace crossdock::memory
