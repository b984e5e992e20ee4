// SPDX-License-Identifier: Apache-2.0
// Zeroed pages that ranks share, in one process or as a file descriptor between processes.
#pragma once

#include <cstddef>

#include "platform/system/unique_fd.hpp"

namespace crossdock::platform::cpu {

/// Bytes of a page: sizes of SharedBlock are multiples of it.
std::size_t page_bytes();

/// `bytes` rounded up to whole pages: the size of a SharedBlock of `bytes`.
std::size_t round_to_pages(std::size_t bytes);

/// Owns a mapping of whole pages. Move-only. Pages are zero and take no memory until their first access.
class SharedBlock {
 public:
  SharedBlock() = default;
  SharedBlock(SharedBlock&& other) noexcept { *this = static_cast<SharedBlock&&>(other); }
  SharedBlock& operator=(SharedBlock&& other) noexcept;
  ~SharedBlock() { release(); }

  /// Allocates memory. `shareable`: other processes can open its fd(). 0 bytes give an empty block. SystemError if a
  /// system call fails.
  static SharedBlock allocate(std::size_t bytes, bool shareable);

  /// Maps the memory of `fd`, which stays the caller's and may be closed afterwards. SystemError if it is smaller than
  /// `bytes`, or not sealed against shrinking: an access past a shrunk end would kill this process.
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
