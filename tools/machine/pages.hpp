// SPDX-License-Identifier: Apache-2.0
// Zeroed pages that take memory only once they are touched; optionally shared with processes forked later. And how much memory
// there is.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <new>
#include <string>
#include <utility>

namespace crossdock::tools {

class Pages {
 public:
  Pages() = default;
  explicit Pages(std::size_t bytes, bool shared = false) : bytes_(bytes) {
    if (bytes == 0) return;
    const int flags = MAP_ANONYMOUS | MAP_NORESERVE | (shared ? MAP_SHARED : MAP_PRIVATE);
    void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    data_ = static_cast<std::byte*>(mapped);
    if (!shared) ::madvise(data_, bytes, MADV_HUGEPAGE);  // as the library does for its own
  }
  Pages(Pages&& other) noexcept : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Pages& operator=(Pages&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Pages() {
    if (data_) ::munmap(data_, bytes_);
  }

  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Bytes that a line of /proc/meminfo states, such as "MemTotal:"; 0 if there is none.
inline std::uint64_t memory_of_machine(const std::string& line) {
  std::ifstream file("/proc/meminfo");
  std::string name, rest;
  for (std::uint64_t kib = 0; file >> name >> kib; std::getline(file, rest))
    if (name == line) return kib << 10;
  return 0;
}

}  // namespace crossdock::tools
