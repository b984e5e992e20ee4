// SPDX-License-Identifier: Apache-2.0
// A cache of pinned host memory: released pages are reused and never freed. To free pinned memory, the driver takes its
// lock and waits until all kernels of all devices have ended. If one of these kernels waits for another rank of this
// process, and that rank needs the lock to launch its kernel, both wait forever.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "platform/device.hpp"

namespace crossdock::platform {

class PinnedPages {
 public:
  /// A free page of this size, or null.
  void* take(std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    std::vector<void*>& pages = free_[bytes];
    if (pages.empty()) return nullptr;
    void* page = pages.back();
    pages.pop_back();
    return page;
  }
  void put(void* page, std::uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    free_[bytes].push_back(page);
  }

 private:
  std::mutex mutex_;
  std::map<std::uint64_t, std::vector<void*>> free_;
};

/// The cache of this process. Never destroyed, so destructors that run at exit may use it.
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
  ~PinnedBlock() override { pinned_pages().put(data_, bytes_); }
};

}  // namespace crossdock::platform
