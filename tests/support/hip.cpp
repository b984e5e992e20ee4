// SPDX-License-Identifier: Apache-2.0
#include "support/hip.hpp"

#ifdef CROSSDOCK_WITH_HIP
#include "platform/hip/driver.hpp"
#include "support/rank_memory.hpp"

namespace crossdock::testing::hip {
namespace {

using platform::hip::driver;

void check(hipError_t error) { platform::hip::check(error, "tests, HIP"); }

}  // namespace

int num_devices() {
  int count = 0;
  check(driver().get_device_count(&count));
  return count;
}

std::shared_ptr<void> allocate(std::size_t bytes) {
  void* data = nullptr;
  check(driver().malloc_with_flags(&data, bytes, hipDeviceMallocFinegrained));
  return std::shared_ptr<void>(data, [](void* p) { (void)driver().free_memory(p); });
}

void fill(void* to, std::uint8_t value, std::size_t bytes) {
  check(driver().set_async(to, value, bytes, nullptr));
  synchronize(nullptr);
}

void copy(void* to, const void* from, std::size_t bytes) {
  enqueue_copy(to, from, bytes, nullptr);
  synchronize(nullptr);
}

void enqueue_copy(void* to, const void* from, std::size_t bytes, StreamHandle stream) {
  check(driver().copy_async(to, from, bytes, hipMemcpyDefault, static_cast<hipStream_t>(stream)));
}

void synchronize(StreamHandle stream) { check(driver().stream_synchronize(static_cast<hipStream_t>(stream))); }

void use(int rank) { check(driver().set_device(device_of(BackendKind::hip, rank))); }

}  // namespace crossdock::testing::hip
#endif
