// SPDX-License-Identifier: Apache-2.0
// e4m3 by the GPU's instructions against the codec's arithmetic: every code, every f32. Run by real_runtime_test.cpp.
#include "platform/hip/shim_device.hpp"

#include "codec/number.hpp"
#include "platform/hip/conversion_device.hpp"  // behind the codec, which stays in software

using namespace crossdock;

using Hardware = platform::hip::HardwareE4m3<platform::hip::kHardwareE4m3>;
using Software = codec::Number<platform::hip::kHardwareE4m3>;

/// How many differ, and the last of them.
struct Differences {
  std::uint64_t count;
  std::uint32_t input, hardware, software;
};

__device__ void compare(Differences* found, std::uint32_t input, std::uint32_t hardware, std::uint32_t software) {
  if (hardware == software) return;
  __hip_atomic_fetch_add(&found->count, std::uint64_t{1}, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  found->input = input, found->hardware = hardware, found->software = software;
}
__device__ std::uint32_t thread() {
  return __builtin_amdgcn_workgroup_id_x() * __builtin_amdgcn_workgroup_size_x() + __builtin_amdgcn_workitem_id_x();
}

/// 256 threads, one code each.
extern "C" __global__ void compare_widen(Differences* found) {
  const std::uint32_t code = thread();
  compare(found, code, codec::bits_of_float(Hardware::widen(code)), codec::bits_of_float(Software::widen(code)));
}

/// 2^24 threads, 2^8 floats each.
extern "C" __global__ void compare_narrow(Differences* found) {
  for (std::uint32_t i = 0; i < 256; ++i) {
    const std::uint32_t bits = i << 24 | thread();
    const float value = codec::float_of_bits(bits);
    compare(found, bits, Hardware::narrow(value), Software::narrow(value));
  }
}
