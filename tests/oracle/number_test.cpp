// SPDX-License-Identifier: Apache-2.0
// The number formats: known values, all codes, ties, and a second definition (search among all values) to compare with.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "oracle/number.hpp"

namespace crossdock::oracle {
namespace {

#define XD_TEST_VALUE(name, ...) Dtype::name,
constexpr Dtype kDtypes[] = {XD_DTYPES(XD_TEST_VALUE)};
#undef XD_TEST_VALUE
#define XD_TEST_MAX(name, NAME, bits, max, ...) max,
constexpr double kLargest[] = {XD_DTYPES(XD_TEST_MAX)};
#undef XD_TEST_MAX

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::uint32_t bits_of_float(float v) { return std::bit_cast<std::uint32_t>(v); }

struct Known {
  Dtype dtype;
  std::uint32_t code;
  double value;
};

// From the format definitions: one, largest, smallest normal, largest and smallest subnormal, an odd one, negatives.
// clang-format off
const Known kKnown[] = {
    {Dtype::bf16, 0x3f80, 1.0}, {Dtype::bf16, 0x4049, 3.140625}, {Dtype::bf16, 0x7f7f, 0x1.fep127},
    {Dtype::bf16, 0x0080, 0x1p-126}, {Dtype::bf16, 0x007f, 0x0.fep-126}, {Dtype::bf16, 0x0001, 0x1p-133},
    {Dtype::bf16, 0xc000, -2.0}, {Dtype::bf16, 0x7f80, INFINITY}, {Dtype::bf16, 0xff80, -INFINITY},
    {Dtype::f16, 0x3c00, 1.0}, {Dtype::f16, 0x3555, 0.333251953125}, {Dtype::f16, 0x7bff, 65504.0},
    {Dtype::f16, 0x0400, 0x1p-14}, {Dtype::f16, 0x03ff, 0x0.ffcp-14}, {Dtype::f16, 0x0001, 0x1p-24},
    {Dtype::f16, 0xc500, -5.0}, {Dtype::f16, 0x7c00, INFINITY}, {Dtype::f16, 0xfc00, -INFINITY},
    {Dtype::f32, 0x3f800000, 1.0}, {Dtype::f32, 0x7f7fffff, 0x1.fffffep127}, {Dtype::f32, 0x00800000, 0x1p-126},
    {Dtype::f32, 0x007fffff, 0x0.fffffep-126}, {Dtype::f32, 0x00000001, 0x1p-149},
    {Dtype::f32, 0xc0490fdb, -0x1.921fb6p1}, {Dtype::f32, 0x7f800000, INFINITY}, {Dtype::f32, 0xff800000, -INFINITY},
    {Dtype::fp8_e4m3, 0x38, 1.0}, {Dtype::fp8_e4m3, 0x7e, 448.0}, {Dtype::fp8_e4m3, 0x78, 256.0},
    {Dtype::fp8_e4m3, 0x08, 0x1p-6}, {Dtype::fp8_e4m3, 0x07, 0x1.cp-7}, {Dtype::fp8_e4m3, 0x01, 0x1p-9},
    {Dtype::fp8_e4m3, 0xb9, -1.125}, {Dtype::fp8_e4m3, 0xfe, -448.0},
    {Dtype::fp8_e4m3fnuz, 0x40, 1.0}, {Dtype::fp8_e4m3fnuz, 0x7f, 240.0}, {Dtype::fp8_e4m3fnuz, 0x08, 0x1p-7},
    {Dtype::fp8_e4m3fnuz, 0x07, 0x1.cp-8}, {Dtype::fp8_e4m3fnuz, 0x01, 0x1p-10}, {Dtype::fp8_e4m3fnuz, 0xff, -240.0},
    {Dtype::fp8_e4m3fnuz, 0xc1, -1.125},
    {Dtype::fp4_e2m1, 0, 0.0}, {Dtype::fp4_e2m1, 1, 0.5}, {Dtype::fp4_e2m1, 2, 1.0}, {Dtype::fp4_e2m1, 3, 1.5},
    {Dtype::fp4_e2m1, 4, 2.0}, {Dtype::fp4_e2m1, 5, 3.0}, {Dtype::fp4_e2m1, 6, 4.0}, {Dtype::fp4_e2m1, 7, 6.0},
    {Dtype::fp4_e2m1, 9, -0.5}, {Dtype::fp4_e2m1, 15, -6.0},
};
// clang-format on

TEST(Number, KnownCodes) {
  for (const Known& known : kKnown) {
    SCOPED_TRACE(std::string(name_of(known.dtype)) + " code " + std::to_string(known.code));
    EXPECT_EQ(decode(known.dtype, known.code), static_cast<float>(known.value));
    EXPECT_EQ(encode(known.dtype, static_cast<float>(known.value)), known.code);
  }
}

TEST(Number, LargestValueIsThatOfTheList) {
  for (int i = 0; i < static_cast<int>(std::size(kDtypes)); ++i) {
    const float largest = static_cast<float>(kLargest[i]);
    EXPECT_EQ(decode(kDtypes[i], encode(kDtypes[i], largest)), largest) << name_of(kDtypes[i]);
    const bool has_inf = bits_of(kDtypes[i]) >= 16;
    EXPECT_EQ(decode(kDtypes[i], encode(kDtypes[i], kInf)), has_inf ? kInf : largest) << name_of(kDtypes[i]);
    EXPECT_EQ(decode(kDtypes[i], encode(kDtypes[i], -kInf)), has_inf ? -kInf : -largest) << name_of(kDtypes[i]);
  }
}

TEST(Number, NanAndZero) {
  const float negative_nan = std::bit_cast<float>(0xffc12345u), signalling = std::bit_cast<float>(0x7f800001u);
  for (float nan : {kNan, negative_nan, signalling}) {
    EXPECT_EQ(encode(Dtype::bf16, nan), 0x7fffu);
    EXPECT_EQ(encode(Dtype::f16, nan), 0x7fffu);
    EXPECT_EQ(encode(Dtype::f32, nan), 0x7fffffffu);
    EXPECT_EQ(encode(Dtype::fp8_e4m3, nan), 0x7fu);
    EXPECT_EQ(encode(Dtype::fp8_e4m3fnuz, nan), 0x80u);
    EXPECT_EQ(encode(Dtype::fp4_e2m1, nan), 7u);
  }
  EXPECT_EQ(encode(Dtype::bf16, -0.0f), 0x8000u);
  EXPECT_EQ(encode(Dtype::f16, -0.0f), 0x8000u);
  EXPECT_EQ(encode(Dtype::f32, -0.0f), 0x80000000u);
  EXPECT_EQ(encode(Dtype::fp8_e4m3, -0.0f), 0x80u);
  EXPECT_EQ(encode(Dtype::fp8_e4m3fnuz, -0.0f), 0x00u);
  EXPECT_EQ(encode(Dtype::fp4_e2m1, -0.0f), 8u);
  EXPECT_EQ(encode(Dtype::fp8_e4m3, -0x1p-149f), 0x80u);   // rounds to zero and keeps its sign
  EXPECT_EQ(encode(Dtype::fp8_e4m3fnuz, -0x1p-149f), 0u);  // where there is a sign to keep
  EXPECT_EQ(bits_of_float(decode(Dtype::fp4_e2m1, 8)), 0x80000000u);
  for (std::uint32_t nan : {0x7fu, 0xffu}) EXPECT_TRUE(std::isnan(decode(Dtype::fp8_e4m3, nan)));
  EXPECT_EQ(bits_of_float(decode(Dtype::fp8_e4m3fnuz, 0x80)), 0x7fffffffu);
}

struct Rounded {
  Dtype dtype;
  double value;
  std::uint32_t code;
};

// Halfway cases go to the even code; a step past halfway goes up.
// clang-format off
const Rounded kRounded[] = {
    {Dtype::bf16, 1.0 + 0x1p-8, 0x3f80}, {Dtype::bf16, 1.0 + 0x1p-8 + 0x1p-23, 0x3f81},
    {Dtype::bf16, 1.0 + 3 * 0x1p-8, 0x3f82}, {Dtype::bf16, 0x1.fffp127, 0x7f80}, {Dtype::bf16, 0x1.ffp127, 0x7f80},
    {Dtype::bf16, 0x1.fefffep127, 0x7f7f}, {Dtype::bf16, 0x1p-134, 0}, {Dtype::bf16, 0x1.8p-134, 1},
    {Dtype::bf16, 0x1.ffp-127, 0x0080},
    {Dtype::f16, 65519.996, 0x7bff}, {Dtype::f16, 65520.0, 0x7c00}, {Dtype::f16, 1.0 + 0x1p-11, 0x3c00},
    {Dtype::f16, 1.0 + 3 * 0x1p-11, 0x3c02}, {Dtype::f16, 0x1p-25, 0}, {Dtype::f16, 0x1.8p-25, 1},
    {Dtype::f16, 3 * 0x1p-25, 2},
    {Dtype::fp8_e4m3, 1.0625, 0x38}, {Dtype::fp8_e4m3, 1.1875, 0x3a}, {Dtype::fp8_e4m3, 464.0, 0x7e},
    {Dtype::fp8_e4m3, 1e30, 0x7e}, {Dtype::fp8_e4m3, 432.0, 0x7c + 2}, {Dtype::fp8_e4m3, 0x1p-10, 0},
    {Dtype::fp8_e4m3, 3 * 0x1p-10, 2},
    {Dtype::fp8_e4m3fnuz, 247.0, 0x7f}, {Dtype::fp8_e4m3fnuz, -1e30, 0xff}, {Dtype::fp8_e4m3fnuz, 1.0625, 0x40},
    {Dtype::fp8_e4m3fnuz, 0x1p-11, 0}, {Dtype::fp8_e4m3fnuz, -0x1p-11, 0}, {Dtype::fp8_e4m3fnuz, 3 * 0x1p-11, 2},
    {Dtype::fp4_e2m1, 0.25, 0}, {Dtype::fp4_e2m1, 0.75, 2}, {Dtype::fp4_e2m1, 1.25, 2}, {Dtype::fp4_e2m1, 1.75, 4},
    {Dtype::fp4_e2m1, 2.5, 4}, {Dtype::fp4_e2m1, 3.5, 6}, {Dtype::fp4_e2m1, 5.0, 6}, {Dtype::fp4_e2m1, 5.001, 7},
    {Dtype::fp4_e2m1, -0.25, 8}, {Dtype::fp4_e2m1, 7.0, 7}, {Dtype::fp4_e2m1, -100.0, 15},
};
// clang-format on

TEST(Number, TiesAndEnds) {
  for (const Rounded& r : kRounded) {
    EXPECT_EQ(encode(r.dtype, static_cast<float>(r.value)), r.code) << name_of(r.dtype) << " " << r.value;
  }
}

// Each code returns to itself; a NaN to the canonical one.
TEST(Number, EveryCodeRoundTrips) {
  for (Dtype dtype : kDtypes) {
    const std::uint64_t num_codes = std::uint64_t{1} << bits_of(dtype);
    const std::uint64_t step = dtype == Dtype::f32 ? 4093 : 1;
    for (std::uint64_t code = 0; code < num_codes; code += step) {
      const float value = decode(dtype, static_cast<std::uint32_t>(code));
      const std::uint32_t expected = std::isnan(value) ? encode(dtype, kNan) : static_cast<std::uint32_t>(code);
      ASSERT_EQ(encode(dtype, value), expected) << name_of(dtype);
    }
  }
}

TEST(Number, F32IsTheMachinesFloat) {
  for (std::uint64_t code = 0; code < (std::uint64_t{1} << 32); code += 4093) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(code));
    if (std::isnan(value)) continue;
    ASSERT_EQ(bits_of_float(decode(Dtype::f32, static_cast<std::uint32_t>(code))), code);
  }
}

// A second definition: the nearest of all finite values, the even code at a tie, and the rules past the last value.
class Search {
 public:
  explicit Search(Dtype dtype) : dtype_(dtype) {
    const std::uint32_t half = 1u << (bits_of(dtype) - 1);
    for (std::uint32_t code = 0; code < half && std::isfinite(decode(dtype, code)); ++code)
      values_.push_back(decode(dtype, code));
  }

  std::uint32_t operator()(float value) const {
    if (std::isnan(value)) return encode(dtype_, kNan);
    const double magnitude = std::fabs(static_cast<double>(value));
    const double last = values_.back(), last_step = last - values_[values_.size() - 2];
    std::uint32_t code;
    if (magnitude >= last + last_step / 2) {
      code = static_cast<std::uint32_t>(values_.size()) - (bits_of(dtype_) == 16 ? 0 : 1);
    } else {
      const auto above = std::lower_bound(values_.begin(), values_.end(), magnitude);
      code = static_cast<std::uint32_t>(above - values_.begin());
      if (code == values_.size()) {
        --code;
      } else if (code > 0) {
        const double up = values_[code] - magnitude, down = magnitude - values_[code - 1];
        if (down < up || (down == up && code % 2 == 1)) --code;
      }
    }
    const bool lone_zero = dtype_ == Dtype::fp8_e4m3fnuz && code == 0;
    return std::signbit(value) && !lone_zero ? code | 1u << (bits_of(dtype_) - 1) : code;
  }

 private:
  Dtype dtype_;
  std::vector<double> values_;
};

void compare_with_search(std::uint64_t step) {
  for (Dtype dtype : kDtypes) {
    if (dtype == Dtype::f32) continue;
    const Search search(dtype);
    for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += step) {
      const float value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
      ASSERT_EQ(encode(dtype, value), search(value)) << name_of(dtype) << " from bits " << bits;
    }
  }
}

TEST(Number, EncodeIsTheNearest) { compare_with_search(4093); }

// The values where nearest changes: each code, each midpoint of neighbours, and the floats beside these.
TEST(Number, EncodeIsTheNearestAroundEveryMidpoint) {
  for (Dtype dtype : kDtypes) {
    if (dtype == Dtype::f32) continue;
    const Search search(dtype);
    for (std::uint32_t code = 0; code + 1 < (1u << bits_of(dtype)); ++code) {
      const float low = decode(dtype, code), high = decode(dtype, code + 1);
      if (!std::isfinite(low) || !std::isfinite(high)) continue;
      const float middle = static_cast<float>((static_cast<double>(low) + high) / 2);
      for (float center : {low, middle}) {
        for (float v : {std::nextafter(center, -kInf), center, std::nextafter(center, kInf)}) {
          ASSERT_EQ(encode(dtype, v), search(v)) << name_of(dtype) << " from " << v;
        }
      }
    }
  }
}

#ifdef __FLT16_MAX__
TEST(Number, F16IsTheCompilers) {
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 251) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isnan(value)) continue;
    const auto half = std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
    ASSERT_EQ(encode(Dtype::f16, value), half) << value;
    ASSERT_EQ(bits_of_float(decode(Dtype::f16, half)),
              bits_of_float(static_cast<float>(std::bit_cast<_Float16>(half))));
  }
}
#endif

TEST(Number, Bf16IsTheUpperHalfRounded) {
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 251) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(encode(Dtype::bf16, value), (bits + 0x7fff + (bits >> 16 & 1)) >> 16) << value;
  }
}

// Over all 2^32 floats, upwards: codes never step down, and a minus only sets the sign. With the midpoints tested above
// this leaves no float that could go wrong.
TEST(Number, DISABLED_AllFloats) {
  for (Dtype dtype : kDtypes) {
    const std::uint32_t sign = 1u << (bits_of(dtype) - 1);
    std::uint32_t last = 0;
    std::uint64_t wrong = 0;
    for (std::uint32_t bits = 0; bits <= 0x7f800000u; ++bits) {
      const std::uint32_t code = encode(dtype, std::bit_cast<float>(bits));
      const std::uint32_t negative = encode(dtype, std::bit_cast<float>(bits | 0x80000000u));
      const bool lone_zero = dtype == Dtype::fp8_e4m3fnuz && code == 0;
      wrong += code < last || code >= sign || negative != (lone_zero ? 0 : code | sign) ? 1 : 0;
      wrong += dtype == Dtype::f32 && code != bits ? 1 : 0;
      last = code;
    }
    const std::uint32_t nan = encode(dtype, kNan);
    for (std::uint32_t bits = 0x7f800001u; bits <= 0x7fffffffu; ++bits) {
      wrong += encode(dtype, std::bit_cast<float>(bits)) != nan ? 1 : 0;
      wrong += encode(dtype, std::bit_cast<float>(bits | 0x80000000u)) != nan ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0u) << name_of(dtype);
  }
}

TEST(Number, Rows) {
  const std::uint8_t fp4[] = {0x21, 0xf8};  // low nibble first: .5, 1, -0, -6
  EXPECT_EQ(widen_row(Dtype::fp4_e2m1, fp4, 4), (std::vector<float>{0.5f, 1.0f, -0.0f, -6.0f}));
  std::uint8_t row[8] = {};
  narrow_row(Dtype::fp4_e2m1, {0.5f, 1.0f, -0.0f, -6.0f}, row);
  EXPECT_EQ(row[0], 0x21);
  EXPECT_EQ(row[1], 0xf8);
  narrow_row(Dtype::bf16, {1.0f, -2.0f}, row);  // 3f80, c000 in little-endian bytes
  EXPECT_EQ(std::vector<std::uint8_t>(row, row + 4), (std::vector<std::uint8_t>{0x80, 0x3f, 0x00, 0xc0}));
  narrow_row(Dtype::f32, {1.5f}, row);
  EXPECT_EQ(std::vector<std::uint8_t>(row, row + 4), (std::vector<std::uint8_t>{0x00, 0x00, 0xc0, 0x3f}));
  for (Dtype dtype : kDtypes) {
    for (std::uint32_t i = 0; i < 2; ++i) write_code(dtype, row, i, i + 5);
    for (std::uint32_t i = 0; i < 2; ++i) EXPECT_EQ(read_code(dtype, row, i), i + 5) << name_of(dtype);
  }
}

}  // namespace
}  // namespace crossdock::oracle
