// SPDX-License-Identifier: Apache-2.0
#include "support/rank_memory.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>
#include <vector>

#include "crossdock/cpu_stream.hpp"

namespace crossdock::testing {
namespace {

constexpr std::size_t kGuardBytes = 128;
constexpr std::uint8_t kGuard = 0xc5;

void only_cpu(BackendKind backend) {
  if (backend != BackendKind::cpu)
    throw std::logic_error("tests: no memory of backend " + std::string(name_of(backend)) + " yet");
}

}  // namespace

Buffer::Buffer(BackendKind backend, std::size_t bytes, std::uint8_t fill, bool guarded)
    : backend_(backend), bytes_(bytes) {
  only_cpu(backend);
  constexpr std::align_val_t kAlign{64};
  const std::size_t all = std::max<std::size_t>(1, bytes + (guarded ? kGuardBytes : 0));
  data_ = std::shared_ptr<void>(::operator new(all, kAlign), [](void* p) { ::operator delete(p, kAlign); });
  std::memset(data_.get(), fill, bytes);
  if (guarded) std::memset(static_cast<std::uint8_t*>(data_.get()) + bytes, kGuard, kGuardBytes);
}

bool Buffer::guard_is_whole() const {
  std::vector<std::uint8_t> guard(kGuardBytes);
  copy_out(backend_, guard.data(), as<std::uint8_t>() + bytes_, kGuardBytes);
  return std::all_of(guard.begin(), guard.end(), [](std::uint8_t b) { return b == kGuard; });
}

void copy_in(BackendKind backend, void* to, const void* from, std::size_t bytes, StreamHandle stream) {
  only_cpu(backend);
  if (bytes == 0) return;
  if (!stream) {
    std::memcpy(to, from, bytes);
    return;
  }
  static_cast<CpuStream*>(stream)->enqueue([=] { std::memcpy(to, from, bytes); });
}

void copy_out(BackendKind backend, void* to, const void* from, std::size_t bytes) {
  only_cpu(backend);
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void synchronize(BackendKind backend, StreamHandle stream) {
  only_cpu(backend);
  if (stream) static_cast<CpuStream*>(stream)->synchronize();
}

}  // namespace crossdock::testing
