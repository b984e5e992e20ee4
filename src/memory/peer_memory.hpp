// SPDX-License-Identifier: Apache-2.0
// Memory of one size on every rank, mapped by all. Nobody frees what a peer still maps: counted references between
// threads, the system's own counts between processes.
#pragma once

#include <chrono>
#include <vector>

#include "crossdock/group.hpp"
#include "memory/peers.hpp"
#include "memory/share_mode.hpp"
#include "platform/device.hpp"

namespace crossdock::memory {

/// Who shares, and by what means.
struct Sharing {
  AllGather all_gather;
  std::shared_ptr<platform::Device> device;
  int rank = 0;
  int num_ranks = 1;
  unsigned in_process = 0;  // bit r: rank r is this one, or another thread of this process
  std::chrono::milliseconds deadline{0};
  ShareMode share_mode;  // between processes

  bool is_in_process(int r) const { return in_process >> r & 1; }
  bool one_process() const { return in_process == (1u << num_ranks) - 1; }
};

class PeerMemory {
 public:
  PeerMemory() = default;

  /// Collective. If any rank fails, all throw, naming it.
  static PeerMemory create(const Sharing& sharing, std::uint64_t bytes, const char* what);

  std::byte* base(int rank) const { return blocks_[rank]->data(); }
  std::uint64_t bytes() const { return blocks_.empty() ? 0 : blocks_[rank_]->bytes(); }
  /// Whether a pointer is into this rank's own part.
  bool holds(const void* pointer) const {
    return bytes() && static_cast<std::uint64_t>(static_cast<const std::byte*>(pointer) - base(rank_)) < bytes();
  }
  Peers peers() const;
  const std::vector<platform::BlockPtr>& blocks() const { return blocks_; }

 private:
  int rank_ = 0;
  std::vector<platform::BlockPtr> blocks_;
};

/// Collective. Throws on every rank if `failure` (a text; empty = fine) is given on any: there the caller's own
/// exception class, elsewhere that of the first rank that failed, named with its reason.
void agree(const Sharing& sharing, const std::string& failure, const char* what, StatusCode code = StatusCode::system);

}  // namespace crossdock::memory
