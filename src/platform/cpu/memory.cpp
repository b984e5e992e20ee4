// SPDX-License-Identifier: Apache-2.0
// Anonymous pages for ranks of one process, sealed memfd pages for ranks of several.
#include "platform/cpu/memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <limits>
#include <string>
#include <utility>

#include "platform/system/system_failure.hpp"

namespace crossdock::platform::cpu {

namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

/// Maps `bytes` bytes. From 2 MiB on, at a multiple of the huge page size, so that huge pages can cover all of them:
/// for this it reserves one huge page more and unmaps the rest. `fd` -1: anonymous memory.
std::byte* map_aligned(std::size_t bytes, int fd, const char* what) {
  const std::size_t slack = bytes >= kHugePageBytes ? kHugePageBytes : 0;
  void* reserved = ::mmap(nullptr, bytes + slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) system::throw_system_error(what + (" of " + std::to_string(bytes)) + " bytes", errno);
  auto* first = static_cast<std::byte*>(reserved);
  const std::size_t before =
      slack == 0 ? 0 : (kHugePageBytes - reinterpret_cast<std::size_t>(first) % kHugePageBytes) % kHugePageBytes;
  const int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void* mapped = ::mmap(first + before, bytes, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
  if (mapped == MAP_FAILED) {
    const int error = errno;
    ::munmap(reserved, bytes + slack);
    system::throw_system_error(what + (" of " + std::to_string(bytes)) + " bytes", error,
                               "ask for less, or free memory");
  }
  if (before > 0) ::munmap(first, before);
  if (slack > before) ::munmap(first + before + bytes, slack - before);
  return static_cast<std::byte*>(mapped);
}

/// A file in memory whose size nobody can change: an access past a shrunk end would kill the peers by SIGBUS.
system::UniqueFd make_sealed_file(std::size_t bytes) {
  system::UniqueFd fd(::memfd_create("crossdock", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) system::throw_system_error("shared memory: memfd_create", errno);
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
    system::throw_system_error("shared memory: setting the size to " + std::to_string(bytes) + " bytes", errno);
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    system::throw_system_error("shared memory: sealing the size", errno);
  return fd;
}

}  // namespace

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

std::size_t round_to_pages(std::size_t bytes) { return (bytes + page_bytes() - 1) / page_bytes() * page_bytes(); }

SharedBlock SharedBlock::allocate(std::size_t bytes, bool shareable) {
  constexpr std::size_t kMost = std::numeric_limits<std::ptrdiff_t>::max() / 2;
  if (bytes > kMost) throw SystemError("shared memory: " + std::to_string(bytes) + " bytes exceed the address space");
  SharedBlock block;
  if (bytes == 0) return block;
  const std::size_t rounded = round_to_pages(bytes);
  if (shareable) block.fd_ = make_sealed_file(rounded);
  block.data_ = map_aligned(rounded, block.fd_.get(), "shared memory: mapping");
  block.bytes_ = rounded;
  ::madvise(block.data_, rounded, MADV_HUGEPAGE);  // a third less time for scattered reads; may fail
  return block;
}

SharedBlock SharedBlock::open(int fd, std::size_t bytes) {
  const std::size_t rounded = round_to_pages(bytes);
  struct stat info = {};
  if (::fstat(fd, &info) != 0)
    system::throw_system_error("a peer's shared memory: fstat of fd " + std::to_string(fd), errno);
  if (static_cast<std::size_t>(info.st_size) < rounded) {
    throw SystemError("a peer's shared memory has " + std::to_string(info.st_size) + " bytes where " +
                      std::to_string(rounded) + " are needed; all ranks must use the same version and configuration");
  }
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
    throw SystemError("a peer's shared memory is not sealed against shrinking; it was not made by this library");
  SharedBlock block;
  if (rounded == 0) return block;
  block.data_ = map_aligned(rounded, fd, "a peer's shared memory: mapping");
  block.bytes_ = rounded;
  ::madvise(block.data_, rounded, MADV_HUGEPAGE);
  return block;
}

SharedBlock& SharedBlock::operator=(SharedBlock&& other) noexcept {
  if (this != &other) {
    release();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    fd_ = std::move(other.fd_);
  }
  return *this;
}

void SharedBlock::release() noexcept {
  if (data_ != nullptr) ::munmap(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
  fd_.reset();
}

}  // namespace crossdock::platform::cpu
