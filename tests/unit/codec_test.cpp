// SPDX-License-Identifier: Apache-2.0
// Number formats, packs and wire rows against the oracle's definition: every code, and every one of the 2^32 floats.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "codec/wire_row.hpp"
#include "oracle/answer.hpp"
#include "oracle/number.hpp"
#include "platform/cpu/sanitizers.hpp"
#include "platform/cpu/scalar_machine.hpp"

namespace crossdock::codec {
namespace {

template <Dtype kDtype>
struct Tag {
  static constexpr Dtype dtype = kDtype;
};

template <class T>
class Codec : public ::testing::Test {};
using Dtypes = ::testing::Types<Tag<Dtype::bf16>, Tag<Dtype::f16>, Tag<Dtype::f32>, Tag<Dtype::fp8_e4m3>,
                                Tag<Dtype::fp8_e4m3fnuz>, Tag<Dtype::fp4_e2m1>>;
struct Names {
  template <class T>
  static std::string GetName(int) {
    return std::string(name_of(T::dtype));
  }
};
TYPED_TEST_SUITE(Codec, Dtypes, Names);

TYPED_TEST(Codec, WidensEveryCode) {
  constexpr Dtype dtype = TypeParam::dtype;
  const std::uint64_t codes = bits_of(dtype) == 32 ? std::uint64_t{1} << 16 : std::uint64_t{1} << bits_of(dtype);
  for (std::uint64_t i = 0; i < codes; ++i) {
    const auto code = static_cast<std::uint32_t>(bits_of(dtype) == 32 ? i * 65537 : i);
    const float got = Number<dtype>::widen(code), right = oracle::decode(dtype, code);
    if (std::isnan(right)) {
      ASSERT_TRUE(std::isnan(got)) << code;  // which NaN does not matter: it is made canonical when it is narrowed
      ASSERT_EQ(Number<dtype>::narrow(got), oracle::encode(dtype, right)) << code;
    } else {
      ASSERT_EQ(bits_of_float(got), bits_of_float(right)) << code;
    }
  }
}

/// The largest magnitude from `first` on that has the same code; the oracle's codes grow with the magnitude.
std::uint32_t last_of_code(Dtype dtype, std::uint32_t sign, std::uint32_t first, std::uint32_t code) {
  std::uint32_t low = first, high = 0x7f800000u;
  while (low < high) {
    const std::uint32_t middle = low + (high - low + 1) / 2;
    if (oracle::encode(dtype, float_of_bits(sign | middle)) == code)
      low = middle;
    else
      high = middle - 1;
  }
  return low;
}

/// Four neighbouring magnitudes of a sign at once, as the CPU narrows them.
template <Dtype kDtype>
int wrong_words(std::uint32_t sign, std::uint32_t first, std::uint32_t code) {
  const platform::Words bits = platform::Words{first, first + 1, first + 2, first + 3} | sign;
  const auto same = Number<kDtype>::narrow(platform::float_of_bits(bits)) == code;
  return 4 + same[0] + same[1] + same[2] + same[3];
}

/// Number of floats of a sign that do not become the oracle's code, one word at a time or four. Each run of floats with one
/// code is swept at once.
template <Dtype kDtype>
std::uint64_t wrong_floats(std::uint32_t sign, std::uint32_t step) {
  const auto differs = [&](std::uint32_t m, std::uint32_t code) {
    return Number<kDtype>::narrow(float_of_bits(sign | m)) != code ? 1 : 0;
  };
  const auto sweep = [&](std::uint32_t first, std::uint32_t last, std::uint32_t code) {
    std::uint64_t wrong = differs(last, code);
    for (std::uint64_t m = first; m < last; m += step) wrong += differs(static_cast<std::uint32_t>(m), code);
    for (std::uint64_t m = first; m + 3 <= last; m += 4 * std::uint64_t{step})
      wrong += wrong_words<kDtype>(sign, static_cast<std::uint32_t>(m), code);
    if (last >= first + 3) wrong += wrong_words<kDtype>(sign, last - 3, code);
    return wrong;
  };
  std::uint64_t wrong = 0;
  for (std::uint32_t first = 0; first <= 0x7f800000u;) {
    const std::uint32_t code = oracle::encode(kDtype, float_of_bits(sign | first));
    const std::uint32_t last = last_of_code(kDtype, sign, first, code);
    wrong += sweep(first, last, code);
    first = last + 1;
  }
  return wrong + sweep(0x7f800001u, 0x7fffffffu, oracle::encode(kDtype, float_of_bits(0x7fc00000u)));
}

TYPED_TEST(Codec, NarrowsEveryFloat) {
  constexpr Dtype dtype = TypeParam::dtype;
  const std::uint32_t step = XD_ASAN || XD_TSAN ? 251 : 1;
  if constexpr (dtype == Dtype::f32) {
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < std::uint64_t{1} << 32; i += step) {
      const auto bits = static_cast<std::uint32_t>(i);
      const std::uint32_t right = (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffffffu : bits;
      wrong += Number<dtype>::narrow(float_of_bits(bits)) != right;
    }
    EXPECT_EQ(wrong, 0u);
  } else {
    std::uint64_t wrong = 0;
    std::thread negative([&] { wrong = wrong_floats<dtype>(0x80000000u, step); });
    EXPECT_EQ(wrong_floats<dtype>(0, step), 0u);
    negative.join();
    EXPECT_EQ(wrong, 0u);
  }
}

TYPED_TEST(Codec, WidensFourWordsAsOne) {
  constexpr Dtype dtype = TypeParam::dtype;
  std::mt19937 random(9);
  for (int again = 0; again < 100000; ++again) {
    platform::Words codes{};
    for (int i = 0; i < 4; ++i) codes[i] = static_cast<std::uint32_t>(random()) & Pack<dtype>::kMask;
    const platform::Floats values = Number<dtype>::widen(codes);
    for (int i = 0; i < 4; ++i)
      ASSERT_EQ(bits_of_float(float(values[i])), bits_of_float(Number<dtype>::widen(std::uint32_t(codes[i]))))
          << codes[i];
  }
}

/// The order of values inside a pack is its own affair; that what goes in comes out is not.
TYPED_TEST(Codec, PacksKeepEveryElement) {
  constexpr Dtype dtype = TypeParam::dtype;
  std::mt19937 random(1);
  for (int again = 0; again < 2000; ++again) {
    Bytes16 bytes;
    for (std::uint32_t& word : bytes.word) word = random();
    platform::Floats values[Pack<dtype>::kFloats];
    Pack<dtype>::widen(bytes, values);
    const Bytes16 back = Pack<dtype>::narrow(values);
    std::uint8_t in[16], out[16];
    std::memcpy(in, &bytes, 16);
    std::memcpy(out, &back, 16);
    for (int i = 0; i < Pack<dtype>::kCount; ++i) {
      const float value = oracle::decode(dtype, oracle::read_code(dtype, in, i));
      ASSERT_EQ(oracle::read_code(dtype, out, i), oracle::encode(dtype, value)) << i;
    }
  }
}

TEST(Codec, CanonicalLeavesNumbersAndUnitesNaNs) {
  for (const std::uint32_t bits : {0u, 0x80000000u, 1u, 0x7f800000u, 0xff800000u, 0x3f800000u})
    EXPECT_EQ(bits_of_float(canonical(float_of_bits(bits))), bits);
  for (const std::uint32_t bits : {0x7f800001u, 0xffffffffu, 0x7fc00000u, 0xffc00000u})
    EXPECT_EQ(bits_of_float(canonical(float_of_bits(bits))), 0x7fffffffu);
}

TEST(Codec, BlockExponentIsTheLeastThatFits) {
  const auto check = [](std::uint32_t bits) {
    const float amax = float_of_bits(bits);
    ASSERT_EQ(block_exponent(amax), oracle::block_exponent(std::array{amax})) << amax;
  };
  for (std::uint32_t bits = 0; bits < 0x7f800000u; bits += 65521) check(bits);
  for (int e = -127; e <= 119; ++e) {  // 448 * 2^e and its neighbours
    const float edge = std::ldexp(448.0f, e);
    for (int off = -2; off <= 2; ++off) check(bits_of_float(edge) + static_cast<std::uint32_t>(off));
  }
  for (std::uint32_t bits = 0; bits < 70000; ++bits) check(bits);  // the smallest subnormals
  check(0x7f7fffffu);
}

TEST(Codec, PowersOfTwoScaleWithOneRounding) {
  std::mt19937 random(2);
  for (int again = 0; again < 200000; ++again) {
    const float x = float_of_bits(random());
    const int e = static_cast<int>(random() % 255) - 127;
    if (std::isnan(x)) continue;
    const auto right = static_cast<float>(std::ldexp(static_cast<double>(x), e));
    ASSERT_EQ(bits_of_float(x * any_power_of_two(e)), bits_of_float(right)) << x << " * 2^" << e;
  }
}

TEST(Codec, WireRowBytes) {
  EXPECT_EQ(wire_row_bytes(Dtype::bf16, CombineQuant::none, 160), 320);
  EXPECT_EQ(wire_row_bytes(Dtype::fp4_e2m1, CombineQuant::none, 160), 80);
  EXPECT_EQ(wire_row_bytes(Dtype::bf16, CombineQuant::fp8_direct_cast, 160), 160);
  EXPECT_EQ(wire_row_bytes(Dtype::bf16, CombineQuant::fp8_direct_cast, 8), 16);
  EXPECT_EQ(wire_row_bytes(Dtype::f16, CombineQuant::fp8_blockwise, 160), 176);
  EXPECT_EQ(wire_row_bytes(Dtype::f16, CombineQuant::fp8_blockwise, 7168), 7168 + 64);
  for (int hidden = 8; hidden <= 4096; hidden += 8) {
    EXPECT_EQ(wire_row_bytes(Dtype::bf16, CombineQuant::fp8_direct_cast, hidden) % 16, 0);
    EXPECT_EQ(wire_row_bytes(Dtype::bf16, CombineQuant::fp8_blockwise, hidden) % 16, 0);
    EXPECT_GE(wire_row_bytes(Dtype::bf16, CombineQuant::fp8_blockwise, hidden), hidden + (hidden + 127) / 128);
  }
}

/// A row as it comes out of the far side of the wire, by this room's functions alone.
template <Dtype kDtype, CombineQuant kQuant>
std::vector<float> across(const std::vector<std::uint8_t>& row, int hidden) {
  using Row = WireRow<kDtype, kQuant>;
  platform::cpu::ScalarMachine m;
  const std::int64_t row_bytes = row_bytes_of(kDtype, hidden), units = ceil_div<std::int64_t>(hidden, Row::kValues);
  std::vector<Bytes16> aligned(row_bytes / 16), wire(wire_row_bytes(kDtype, kQuant, hidden) / 16), out(row_bytes / 16);
  std::memcpy(aligned.data(), row.data(), row_bytes);
  auto* bytes = reinterpret_cast<std::byte*>(wire.data());
  std::vector<int> exponents(ceil_div(hidden, kScaleBlock), 0);
  if constexpr (kQuant == CombineQuant::fp8_blockwise) {
    const std::vector<float> values = oracle::widen_row(kDtype, row.data(), hidden);
    for (std::size_t b = 0; b < exponents.size(); ++b) {
      float amax = 0.0f;
      for (int i = static_cast<int>(b) * 128; i < std::min<int>(hidden, static_cast<int>(b + 1) * 128); ++i)
        if (std::isfinite(values[i])) amax = std::max(amax, std::fabs(values[i]));
      exponents[b] = block_exponent(amax);
      bytes[round_up(hidden, 16) + static_cast<int>(b)] = static_cast<std::byte>(exponents[b] + 127);
    }
  }
  for (std::int64_t unit = 0; unit < units; ++unit) {
    platform::Bytes16 packs[Row::kRowPacks];
    platform::Floats values[Row::kFloats];
    Row::load_packs(m, reinterpret_cast<std::byte*>(aligned.data()), unit, row_bytes, packs);
    Row::widen_packs(packs, values);
    if constexpr (kQuant == CombineQuant::fp8_blockwise)
      for (platform::Floats& v : values) v = v * any_power_of_two(-exponents[unit / Row::kUnitsPerBlock]);
    m.store16(bytes + unit * 16, Row::encode(values));
    Row::widen_wire(
        m.load16_streaming(bytes + unit * 16), unit, hidden, [&](std::int64_t at) { return bytes[at]; }, values);
    Row::store_row(m, reinterpret_cast<std::byte*>(out.data()), unit, row_bytes, values);
  }
  return oracle::widen_row(kDtype, reinterpret_cast<std::uint8_t*>(out.data()), hidden);
}

template <Dtype kDtype, CombineQuant kQuant>
void check_wire() {
  std::mt19937 random(3);
  for (const int hidden : {8, 16, 24, 120, 128, 136, 160, 1040}) {
    for (int again = 0; again < 50; ++again) {
      std::vector<std::uint8_t> row(row_bytes_of(kDtype, hidden));
      for (std::uint8_t& byte : row) byte = static_cast<std::uint8_t>(random());
      std::vector<float> right = oracle::through_wire(kQuant, kDtype, oracle::widen_row(kDtype, row.data(), hidden));
      for (float& v : right) v = oracle::round_to(kDtype, v);
      const std::vector<float> got = across<kDtype, kQuant>(row, hidden);
      ASSERT_EQ(std::memcmp(got.data(), right.data(), right.size() * 4), 0) << name_of(kQuant) << " hidden " << hidden;
    }
  }
}

TEST(Codec, WiresCarryWhatTheOracleSays) {
  check_wire<Dtype::bf16, CombineQuant::none>();
  check_wire<Dtype::f16, CombineQuant::none>();
  check_wire<Dtype::f32, CombineQuant::none>();
  check_wire<Dtype::bf16, CombineQuant::fp8_direct_cast>();
  check_wire<Dtype::f16, CombineQuant::fp8_direct_cast>();
  check_wire<Dtype::bf16, CombineQuant::fp8_blockwise>();
  check_wire<Dtype::f16, CombineQuant::fp8_blockwise>();
}

}  // namespace
}  // namespace crossdock::codec
