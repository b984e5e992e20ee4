// SPDX-License-Identifier: Apache-2.0
// WHAT the bytes mean, element by element: the codes of every dtype to f32 and back, in integer and f32 arithmetic, so
// that every machine gives the same bits. Rounding is to nearest even. Every NaN becomes the dtype's canonical NaN; in
// fp4, which has none, it becomes +6.
// `W` is one word (std::uint32_t) or a vector of words (platform::Words); `F` is float or platform::Floats.
#pragma once

#include <bit>
#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"
#include "platform/conversion.hpp"
#include "platform/words.hpp"

namespace crossdock::codec {

using platform::below;
using platform::bits_of_float;
using platform::branch;
using platform::each;
using platform::float_of_bits;
using platform::select;

/// 2^e, for e in the normal range of f32.
XD_FN constexpr float power_of_two(int e) { return float_of_bits(static_cast<std::uint32_t>(e + 127) << 23); }
/// Whether f32 bits without their sign are a NaN.
template <class W>
XD_FN constexpr auto is_nan_bits(W magnitude) {
  return below(each<W>(0x7f800000u), magnitude);
}

/// The larger of `amax` and |value|; `amax` where `value` is not finite.
template <class F>
XD_FN constexpr F larger_finite(F amax, F value) {
  const auto magnitude = bits_of_float(value) & 0x7fffffffu;
  using W = std::remove_const_t<decltype(magnitude)>;
  return branch(
      below(magnitude, each<W>(0x7f800000u)),
      [&] { return F(select(amax < float_of_bits(magnitude), float_of_bits(magnitude), amax)); }, [&] { return amax; });
}

/// A format of one sign bit, kExponentBits and kMantissaBits. kTopCode: the code of infinity, or of the largest finite
/// value where the format has no infinity.
template <int kExponentBits, int kMantissaBits, int kBias, std::uint32_t kTopCode, std::uint32_t kNanCode>
struct MiniFloat {
  static constexpr int kBits = 1 + kExponentBits + kMantissaBits;
  static constexpr std::uint32_t kSign = 1u << (kBits - 1);
  static constexpr int kShift = 23 - kMantissaBits;

  /// f32 value of a code that is neither infinity nor NaN. A subnormal code is an integer times the smallest step.
  template <class W>
  XD_FN static constexpr auto widen_finite(W code) {
    const W magnitude = code & (kSign - 1), sign = (code & kSign) << (32 - kBits);
    return branch(
        magnitude >> kMantissaBits != 0,
        [&] {
          return float_of_bits(sign | W((magnitude << kShift) + (static_cast<std::uint32_t>(127 - kBias) << 23)));
        },
        [&] {
          return float_of_bits(
              sign | bits_of_float(platform::float_of_number(magnitude) * power_of_two(1 - kBias - kMantissaBits)));
        });
  }

  /// Code without sign of an f32 magnitude; values too large become kTopCode.
  template <class W>
  XD_FN static constexpr W narrow_magnitude(W magnitude) {
    constexpr std::uint32_t smallest_normal = static_cast<std::uint32_t>(128 - kBias) << 23;
    constexpr float magic =
        power_of_two(24 - kBias - kMantissaBits);  // subnormals: adding it rounds the code into the low bits
    return branch(
        below(magnitude, each<W>(smallest_normal)),
        [&] { return W(bits_of_float(float_of_bits(magnitude) + magic) - bits_of_float(magic)); },
        [&] {
          const W rounded = magnitude + ((1u << (kShift - 1)) - 1) + ((magnitude >> kShift) & 1);
          const W code = (rounded >> kShift) - (static_cast<std::uint32_t>(127 - kBias) << kMantissaBits);
          return select(below(code, each<W>(kTopCode)), code, each<W>(kTopCode));
        });
  }

  template <class F>
  XD_FN static constexpr auto narrow(F value) {
    const auto bits = bits_of_float(value);
    const auto magnitude = bits & 0x7fffffffu;
    using W = std::remove_const_t<decltype(bits)>;
    return branch(
        is_nan_bits<W>(magnitude), [&] { return each<W>(kNanCode); },
        [&] { return W(narrow_magnitude<W>(magnitude) | (bits >> 31 << (kBits - 1))); });
  }
};

template <Dtype kDtype>
struct Number;

template <>
struct Number<Dtype::bf16> {
  template <class W>
  XD_FN static constexpr auto widen(W code) {
    return float_of_bits(code << 16);
  }
  template <class F>
  XD_FN static constexpr auto narrow(F value) {
    const auto bits = bits_of_float(value);
    using W = std::remove_const_t<decltype(bits)>;
    const W rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    return select(is_nan_bits<W>(bits & 0x7fffffffu), each<W>(0x7fffu), rounded);
  }
};

template <>
struct Number<Dtype::f16> : MiniFloat<5, 10, 15, 0x7c00, 0x7fff> {
  template <class W>
  XD_FN static constexpr auto widen(W code) {
    return branch(
        W(code & 0x7c00u) == 0x7c00u,
        [&] { return float_of_bits(W((code & 0x8000u) << 16 | 0x7f800000u | (code & 0x3ffu) << 13)); },
        [&] { return MiniFloat::widen_finite(code); });
  }
};

template <>
struct Number<Dtype::f32> {
  template <class W>
  XD_FN static constexpr auto widen(W code) {
    return float_of_bits(code);
  }
  template <class F>
  XD_FN static constexpr auto narrow(F value) {
    const auto bits = bits_of_float(value);
    using W = std::remove_const_t<decltype(bits)>;
    return select(is_nan_bits<W>(bits & 0x7fffffffu), each<W>(0x7fffffffu), bits);
  }
};

/// The f32 value with every NaN made canonical: the form in which sums are stored.
XD_FN constexpr float canonical(float value) { return float_of_bits(Number<Dtype::f32>::narrow(value)); }

struct E4m3 : MiniFloat<4, 3, 7, 0x7e, 0x7f> {
  template <class W>
  XD_FN static constexpr auto widen(W code) {
    return branch(
        W(code & 0x7fu) == 0x7fu, [&] { return float_of_bits(each<W>(0x7fffffffu)); },
        [&] { return MiniFloat::widen_finite(code); });
  }
};

template <>
struct Number<Dtype::fp8_e4m3> : platform::Conversion<Dtype::fp8_e4m3, E4m3> {};

struct E4m3Fnuz : MiniFloat<4, 3, 8, 0x7f, 0x80> {
  template <class W>
  XD_FN static constexpr auto widen(W code) {
    return branch(
        code == 0x80u, [&] { return float_of_bits(each<W>(0x7fffffffu)); },
        [&] { return MiniFloat::widen_finite(code); });
  }
  template <class F>
  XD_FN static constexpr auto narrow(F value) {
    const auto bits = bits_of_float(value);
    using W = std::remove_const_t<decltype(bits)>;
    const W code = MiniFloat::narrow(value);
    const W plain = select(code == 0x80u, W{}, code);  // there is no negative zero: its code means NaN
    return select(is_nan_bits<W>(bits & 0x7fffffffu), code, plain);
  }
};

template <>
struct Number<Dtype::fp8_e4m3fnuz> : platform::Conversion<Dtype::fp8_e4m3fnuz, E4m3Fnuz> {};

template <>
struct Number<Dtype::fp4_e2m1> : MiniFloat<2, 1, 1, 0x7, 0x7> {
  template <class W>
  XD_FN static constexpr auto widen(W code) {
    return widen_finite(code);
  }
};

}  // namespace crossdock::codec
