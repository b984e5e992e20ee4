// SPDX-License-Identifier: Apache-2.0
// WHAT, element by element: every dtype's codes to f32 and back, in plain integer and f32 arithmetic, alike on every
// machine. Rounding is to nearest even; a NaN becomes the type's one canonical NaN.
#pragma once

#include <bit>
#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"

namespace crossdock::codec {

XD_FN constexpr std::uint32_t bits_of_float(float v) { return std::bit_cast<std::uint32_t>(v); }
XD_FN constexpr float float_of_bits(std::uint32_t v) { return std::bit_cast<float>(v); }
/// 2^e, for e in the normal range of f32.
XD_FN constexpr float power_of_two(int e) { return float_of_bits(static_cast<std::uint32_t>(e + 127) << 23); }
XD_FN constexpr bool is_nan_bits(std::uint32_t magnitude) { return magnitude > 0x7f800000u; }

/// A sign, kExponentBits and kMantissaBits. kTopCode: largest finite code, or the code of infinity where there is one.
template <int kExponentBits, int kMantissaBits, int kBias, std::uint32_t kTopCode, std::uint32_t kNanCode>
struct MiniFloat {
  static constexpr int kBits = 1 + kExponentBits + kMantissaBits;
  static constexpr std::uint32_t kSign = 1u << (kBits - 1);
  static constexpr int kShift = 23 - kMantissaBits;

  XD_FN static constexpr float widen_finite(std::uint32_t code) {
    const std::uint32_t magnitude = code & (kSign - 1), sign = (code & kSign) << (32 - kBits);
    if (magnitude >> kMantissaBits)
      return float_of_bits(sign | ((magnitude << kShift) + (static_cast<std::uint32_t>(127 - kBias) << 23)));
    const float value = static_cast<float>(magnitude) * power_of_two(1 - kBias - kMantissaBits);
    return float_of_bits(sign | bits_of_float(value));
  }

  /// Code of a magnitude, without sign; values past the top become kTopCode.
  XD_FN static constexpr std::uint32_t narrow_magnitude(std::uint32_t magnitude) {
    constexpr std::uint32_t smallest_normal = static_cast<std::uint32_t>(128 - kBias) << 23;
    if (magnitude < smallest_normal) {  // adding this power of two leaves the rounded code in the low bits
      constexpr float magic = power_of_two(24 - kBias - kMantissaBits);
      return bits_of_float(float_of_bits(magnitude) + magic) - bits_of_float(magic);
    }
    const std::uint32_t rounded = magnitude + ((1u << (kShift - 1)) - 1) + ((magnitude >> kShift) & 1);
    const std::uint32_t code = (rounded >> kShift) - (static_cast<std::uint32_t>(127 - kBias) << kMantissaBits);
    return code < kTopCode ? code : kTopCode;
  }

  XD_FN static constexpr std::uint32_t narrow(float value) {
    const std::uint32_t bits = bits_of_float(value), magnitude = bits & 0x7fffffffu;
    if (is_nan_bits(magnitude)) return kNanCode;
    return narrow_magnitude(magnitude) | (bits >> 31 << (kBits - 1));
  }
};

template <Dtype kDtype>
struct Number;

template <>
struct Number<Dtype::bf16> {
  XD_FN static constexpr float widen(std::uint32_t code) { return float_of_bits(code << 16); }
  XD_FN static constexpr std::uint32_t narrow(float value) {
    const std::uint32_t bits = bits_of_float(value);
    const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    return is_nan_bits(bits & 0x7fffffffu) ? 0x7fffu : rounded;
  }
};

template <>
struct Number<Dtype::f16> : MiniFloat<5, 10, 15, 0x7c00, 0x7fff> {
  XD_FN static constexpr float widen(std::uint32_t code) {
    if ((code & 0x7c00u) == 0x7c00u) return float_of_bits((code & 0x8000u) << 16 | 0x7f800000u | (code & 0x3ffu) << 13);
    return widen_finite(code);
  }
};

template <>
struct Number<Dtype::f32> {
  XD_FN static constexpr float widen(std::uint32_t code) { return float_of_bits(code); }
  XD_FN static constexpr std::uint32_t narrow(float value) {
    const std::uint32_t bits = bits_of_float(value);
    return is_nan_bits(bits & 0x7fffffffu) ? 0x7fffffffu : bits;
  }
};

/// An f32 sum as it is stored: a NaN becomes the canonical one.
XD_FN constexpr float canonical(float value) { return float_of_bits(Number<Dtype::f32>::narrow(value)); }

template <>
struct Number<Dtype::fp8_e4m3> : MiniFloat<4, 3, 7, 0x7e, 0x7f> {
  XD_FN static constexpr float widen(std::uint32_t code) {
    return (code & 0x7fu) == 0x7fu ? float_of_bits(0x7fffffffu) : widen_finite(code);
  }
};

template <>
struct Number<Dtype::fp8_e4m3fnuz> : MiniFloat<4, 3, 8, 0x7f, 0x80> {
  XD_FN static constexpr float widen(std::uint32_t code) {
    return code == 0x80u ? float_of_bits(0x7fffffffu) : widen_finite(code);
  }
  XD_FN static constexpr std::uint32_t narrow(float value) {
    const std::uint32_t code = MiniFloat::narrow(value);
    return code == 0x80u && value == value ? 0u : code;  // there is no negative zero: its code means NaN
  }
};

template <>
struct Number<Dtype::fp4_e2m1> : MiniFloat<2, 1, 1, 0x7, 0x7> {
  XD_FN static constexpr float widen(std::uint32_t code) { return widen_finite(code); }
};

}  // namespace crossdock::codec
