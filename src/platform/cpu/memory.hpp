// SPDX-License-Identifier: Apache-2.0
// Zeroed pages that ranks share: within one process, or as a file descriptor between processes.
#pragma once

#include <cstddef>

#include "platform/system/unique_fd.hpp"

namespace crossdock::platform::cpu {

/// The granularity of SharedBlock.
std::size_t page_bytes();

/// Bytes rounded up to whole pages: what a block of `bytes` really takes.
std::size_t round_to_pages(std::size_t bytes);

/// Owns a mapping of whole pages. Move-only. Pages are zero and take no memory until they are first touched.
class SharedBlock {
 public:
  SharedBlock() = default;
  SharedBlock(SharedBlock&& other) noexcept { *this = static_cast<SharedBlock&&>(other); }
  SharedBlock& operator=(SharedBlock&& other) noexcept;
  ~SharedBlock() { release(); }

  /// New memory. `shareable`: has an fd() that another process can open; else huge pages where the system has them.
  /// 0 bytes give an empty block. SystemError if the system refuses.
  static SharedBlock allocate(std::size_t bytes, bool shareable);

  /// Maps the memory behind `fd`, which stays the caller's and may be closed afterwards. SystemError if it is smaller
  /// than `bytes`, or could be made smaller by its owner (that would kill this process on access).
  static SharedBlock open(int fd, std::size_t bytes);

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }  ///< whole pages
  int fd() const { return fd_.get(); }          ///< -1 unless allocated as shareable
  explicit operator bool() const { return data_ != nullptr; }

 private:
  void release() noexcept;

  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  system::UniqueFd fd_;
};

}  // namespace crossdock::platform::cpu
