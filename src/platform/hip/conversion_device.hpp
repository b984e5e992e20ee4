// SPDX-License-Identifier: Apache-2.0
// fp8 e4m3 to f32 and back by conversion instructions: format FNUZ on gfx942, OCP on gfx950. The other format is
// converted in software. tests/hip/all_codes.hip compares every code and every f32 with the software; it has not run on
// a device yet.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"

namespace crossdock::platform::hip {

#if defined(__gfx950__)
inline constexpr Dtype kHardwareE4m3 = Dtype::fp8_e4m3;
#else
inline constexpr Dtype kHardwareE4m3 = Dtype::fp8_e4m3fnuz;
#endif

template <Dtype kDtype>
struct HardwareE4m3 {
  static constexpr bool kFnuz = kDtype == Dtype::fp8_e4m3fnuz;
  static constexpr float kLargest = kFnuz ? 240.0f : 448.0f;
  static constexpr std::uint32_t kNanCode = kFnuz ? 0x80 : 0x7f;

  XD_FN static bool is_nan(std::uint32_t code) { return kFnuz ? code == 0x80 : (code & 0x7f) == 0x7f; }
  XD_FN static float widen(std::uint32_t code) {
    return is_nan(code) ? __builtin_bit_cast(float, 0x7fffffffu)
                        : __builtin_amdgcn_cvt_f32_fp8(static_cast<int>(code), 0);
  }
  XD_FN static std::uint32_t narrow(float value) {
    const float clamped = __builtin_amdgcn_fmed3f(value, kLargest, -kLargest);  // larger values would become NaN
    const std::uint32_t code =
        static_cast<std::uint32_t>(__builtin_amdgcn_cvt_pk_fp8_f32(clamped, clamped, 0, false)) & 0xff;
    if (value != value) return kNanCode;
    return kFnuz && code == 0x80 ? 0 : code;  // FNUZ has no negative zero: code 0x80 is NaN
  }
};

template <Dtype kDtype, class Software>
struct ConversionOf {
  using type = Software;
};
template <class Software>
struct ConversionOf<kHardwareE4m3, Software> {
  using type = HardwareE4m3<kHardwareE4m3>;
};

}  // namespace crossdock::platform::hip

#if defined(XD_HIP_HARDWARE_CONVERSIONS)  // off: CROSSDOCK_HIP_HARDWARE_CONVERSIONS in cmake/hip.cmake
#define XD_OWN_CONVERSIONS
namespace crossdock::platform {
template <Dtype kDtype, class Software>
using Conversion = typename hip::ConversionOf<kDtype, Software>::type;
}  // namespace crossdock::platform
#endif
