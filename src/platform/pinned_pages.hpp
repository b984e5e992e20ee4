// SPDX-License-Identifier: Apache-2.0
// Pinned host memory that is given back is kept for the next who asks. To free it waits for all kernels of all devices, with
// the driver's lock held: a kernel that waits for a rank of this process, which in turn waits for that lock, never ends.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "platform/device.hpp"

namespace crossdock::platform {

class PinnedPages {
 public:
  /// A kept page of this size, or null.
  void* take(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    std::vector<void*>& kept = kept_[bytes];
    if (kept.empty()) return nullptr;
    void* page = kept.back();
    kept.pop_back();
    return page;
  }
  void keep(void* page, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    kept_[bytes].push_back(page);
  }

 private:
  std::mutex mutex_;
  std::map<std::uint64_t, std::vector<void*>> kept_;
};

/// Of this process. It outlives whatever is destroyed when the process ends.
inline PinnedPages& pinned_pages() {
  static PinnedPages& pages = *new PinnedPages;
  return pages;
}

class PinnedBlock : public Block {
 public:
  PinnedBlock(void* data, std::uint64_t bytes) {
    data_ = static_cast<std::byte*>(data);
    bytes_ = bytes;
  }
  ~PinnedBlock() override { pinned_pages().keep(data_, bytes_); }
};

}  // namespace crossdock::platform
