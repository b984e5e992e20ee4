// SPDX-License-Identifier: Apache-2.0
// Memory of one size on every rank, mapped by all. It is freed only when no rank maps it: references are counted
// between threads, and by the operating system between processes.
#pragma once

#include <chrono>
#include <vector>

#include "crossdock/group.hpp"
#include "memory/peers.hpp"
#include "memory/share_mode.hpp"
#include "platform/device.hpp"

namespace crossdock::memory {

/// The ranks that share memory, and how they do it.
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

/// One block of memory on each rank of a group, all of them mapped by this rank. Copies share the mappings.
class PeerMemory {
 public:
  PeerMemory() = default;

  /// Allocates `bytes` bytes on every rank and maps them on all ranks. Collective. If any rank fails, every rank throws
  /// an error that names it. `what`: the public call, for error texts.
  static PeerMemory create(const Sharing& sharing, std::uint64_t bytes, const char* what);

  std::byte* base(int rank) const { return blocks_[rank]->data(); }
  std::uint64_t bytes() const { return blocks_.empty() ? 0 : blocks_[rank_]->bytes(); }
  /// Whether `pointer` points into this rank's own memory.
  bool holds(const void* pointer) const {
    return bytes() && static_cast<std::uint64_t>(static_cast<const std::byte*>(pointer) - base(rank_)) < bytes();
  }
  Peers peers() const;
  const std::vector<platform::BlockPtr>& blocks() const { return blocks_; }

 private:
  int rank_ = 0;
  std::vector<platform::BlockPtr> blocks_;
};

/// Collective. Throws on every rank if any rank passes a `failure` text (empty: none). A rank that failed throws its
/// own text with `code`; the others throw the code and text of the first rank that failed, and name it.
void agree(const Sharing& sharing, const std::string& failure, const char* what, StatusCode code = StatusCode::system);

}  // namespace crossdock::memory
