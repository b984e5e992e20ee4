// SPDX-License-Identifier: Apache-2.0
#ifdef CROSSDOCK_WITH_HIP
#include "platform/hip/driver.hpp"
#include "support/machine.hpp"
#include "support/rank_memory.hpp"

namespace crossdock::testing {
namespace {

using platform::hip::driver;

void check(hipError_t error) { platform::hip::check(error, "tests, HIP"); }

}  // namespace

int num_hip_devices() {
  int count = 0;
  check(driver().get_device_count(&count));
  return count;
}

const Machine& hip_machine() {
  static constexpr Machine kHip{
      [](std::size_t bytes) {
        void* data = nullptr;
        check(driver().malloc_with_flags(&data, bytes, hipDeviceMallocFinegrained));
        return std::shared_ptr<void>(data, [](void* p) { (void)driver().free_memory(p); });
      },
      [](void* to, std::uint8_t value, std::size_t bytes) {
        check(driver().set_async(to, value, bytes, nullptr));
        check(driver().stream_synchronize(nullptr));
      },
      [](void* to, const void* from, std::size_t bytes) {
        check(driver().copy_async(to, from, bytes, hipMemcpyDefault, nullptr));
        check(driver().stream_synchronize(nullptr));
      },
      [](void* to, const void* from, std::size_t bytes, StreamHandle stream) {
        check(driver().copy_async(to, from, bytes, hipMemcpyDefault, static_cast<hipStream_t>(stream)));
      },
      [](StreamHandle stream) { check(driver().stream_synchronize(static_cast<hipStream_t>(stream))); },
      [](int rank) { check(driver().set_device(device_of(BackendKind::hip, rank))); }};
  return kHip;
}

}  // namespace crossdock::testing
#endif
