// SPDX-License-Identifier: Apache-2.0
// A format is a row of numbers. decode and encode are one rule for all formats, in integers and exact powers of two.
#include "oracle/number.hpp"

#include <bit>
#include <cmath>
#include <limits>

namespace crossdock::oracle {
namespace {

// A magnitude code m has the exponent field m >> mantissa_bits and the fraction below it. Codes up to max_code are
// finite; overflow_code is what too large a value becomes; larger magnitudes are NaN.
struct Format {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  std::uint32_t max_code;
  std::uint32_t overflow_code;
  std::uint32_t nan_code;
};

constexpr Format format_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::bf16:
      return {8, 7, 127, 0x7f7f, 0x7f80, 0x7fff};
    case Dtype::f16:
      return {5, 10, 15, 0x7bff, 0x7c00, 0x7fff};
    case Dtype::f32:
      return {8, 23, 127, 0x7f7fffff, 0x7f800000, 0x7fffffff};
    case Dtype::fp8_e4m3:
      return {4, 3, 7, 0x7e, 0x7e, 0x7f};
    case Dtype::fp8_e4m3fnuz:
      return {4, 3, 8, 0x7f, 0x7f, 0x80};
    case Dtype::fp4_e2m1:
      return {2, 1, 1, 0x7, 0x7, 0x7};
  }
  return {};
}

constexpr bool has_negative_zero(Dtype dtype) { return dtype != Dtype::fp8_e4m3fnuz; }

constexpr std::uint32_t sign_bit(const Format& f) { return 1u << (f.exponent_bits + f.mantissa_bits); }

// n / 2^shift to the nearest integer, ties to even. n < 2^24.
std::uint64_t divide_rounding(std::uint64_t n, int shift) {
  if (shift > 25) return 0;  // less than a quarter
  const std::uint64_t divisor = std::uint64_t{1} << shift;
  const std::uint64_t quotient = n / divisor;
  const std::uint64_t twice_rest = 2 * (n % divisor);
  const bool up = twice_rest > divisor || (twice_rest == divisor && quotient % 2 == 1);
  return quotient + (up ? 1 : 0);
}

constexpr float kNan = std::bit_cast<float>(0x7fffffffu);
constexpr std::uint32_t kInfinityBits = 0x7f800000u;

// All values of a dtype of at most 16 bits: a table makes widening of rows fast.
std::vector<float> table_of(Dtype dtype) {
  std::vector<float> table(std::size_t{1} << bits_of(dtype));
  for (std::uint32_t code = 0; code < table.size(); ++code) table[code] = decode(dtype, code);
  return table;
}

const std::vector<float>& cached_table_of(Dtype dtype) {
  static const std::vector<float> bf16 = table_of(Dtype::bf16), f16 = table_of(Dtype::f16),
                                  e4m3 = table_of(Dtype::fp8_e4m3), fnuz = table_of(Dtype::fp8_e4m3fnuz),
                                  e2m1 = table_of(Dtype::fp4_e2m1), none;
  switch (dtype) {
    case Dtype::bf16:
      return bf16;
    case Dtype::f16:
      return f16;
    case Dtype::fp8_e4m3:
      return e4m3;
    case Dtype::fp8_e4m3fnuz:
      return fnuz;
    case Dtype::fp4_e2m1:
      return e2m1;
    case Dtype::f32:
      return none;
  }
  return none;
}

}  // namespace

float decode(Dtype dtype, std::uint32_t code) {
  const Format f = format_of(dtype);
  const bool negative = (code & sign_bit(f)) != 0;
  const std::uint32_t magnitude = code & (sign_bit(f) - 1);
  if (negative && magnitude == 0 && !has_negative_zero(dtype)) return kNan;
  if (magnitude > f.overflow_code) return kNan;
  double value;
  if (magnitude > f.max_code) {
    value = std::numeric_limits<double>::infinity();
  } else {
    const int exponent = static_cast<int>(magnitude >> f.mantissa_bits);
    const double fraction = std::ldexp(magnitude & ((1u << f.mantissa_bits) - 1), -f.mantissa_bits);
    value = exponent == 0 ? std::ldexp(fraction, 1 - f.bias) : std::ldexp(1.0 + fraction, exponent - f.bias);
  }
  return static_cast<float>(negative ? -value : value);  // exact: f32 has every value of every dtype
}

std::uint32_t encode(Dtype dtype, float value) {
  const Format f = format_of(dtype);
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > kInfinityBits) return f.nan_code;
  std::uint64_t code = f.overflow_code;
  if (magnitude < kInfinityBits) {
    // |value| = significand * 2^power. Around it the type's values are the multiples of 2^grid.
    const int field = static_cast<int>(magnitude >> 23);
    const std::uint64_t significand = field == 0 ? magnitude : (magnitude & 0x7fffffu) | 0x800000u;
    const int power = (field == 0 ? 1 : field) - 150;
    const int leading = std::bit_width(significand) - 1 + power;
    const int lowest_grid = 1 - f.bias - f.mantissa_bits;
    const int grid = leading - f.mantissa_bits > lowest_grid ? leading - f.mantissa_bits : lowest_grid;
    // Codes count the type's values upwards from 0: 2^mantissa_bits of them lie below each doubling of the grid, and a
    // step that rounds up to the next doubling carries into the exponent by itself.
    const std::uint64_t steps = divide_rounding(significand, grid - power);
    code = (static_cast<std::uint64_t>(grid - lowest_grid) << f.mantissa_bits) + steps;
    if (code > f.max_code) code = f.overflow_code;
  }
  const bool negative = (bits >> 31) != 0 && (code != 0 || has_negative_zero(dtype));
  return static_cast<std::uint32_t>(code) | (negative ? sign_bit(f) : 0);
}

float round_to(Dtype dtype, float value) {
  const std::vector<float>& table = cached_table_of(dtype);
  const std::uint32_t code = encode(dtype, value);
  return table.empty() ? decode(dtype, code) : table[code];
}

std::uint32_t read_code(Dtype dtype, const std::uint8_t* row, std::int64_t index) {
  const auto byte = [&](std::int64_t b) { return static_cast<std::uint32_t>(row[b]); };
  switch (bits_of(dtype)) {
    case 4:
      return (index % 2 == 0 ? byte(index / 2) : byte(index / 2) >> 4) & 0xfu;
    case 8:
      return byte(index);
    case 16:
      return byte(2 * index) | byte(2 * index + 1) << 8;
    default:
      return byte(4 * index) | byte(4 * index + 1) << 8 | byte(4 * index + 2) << 16 | byte(4 * index + 3) << 24;
  }
}

void write_code(Dtype dtype, std::uint8_t* row, std::int64_t index, std::uint32_t code) {
  if (bits_of(dtype) == 4) {
    std::uint8_t& byte = row[index / 2];
    byte = static_cast<std::uint8_t>(index % 2 == 0 ? (byte & 0xf0u) | (code & 0xfu) : (byte & 0x0fu) | (code << 4));
    return;
  }
  const int num_bytes = bits_of(dtype) / 8;
  for (int b = 0; b < num_bytes; ++b) row[index * num_bytes + b] = static_cast<std::uint8_t>(code >> (8 * b));
}

std::vector<float> widen_row(Dtype dtype, const std::uint8_t* row, std::int64_t hidden) {
  const std::vector<float>& table = cached_table_of(dtype);
  std::vector<float> values(static_cast<std::size_t>(hidden));
  for (std::int64_t c = 0; c < hidden; ++c) {
    const std::uint32_t code = read_code(dtype, row, c);
    values[c] = table.empty() ? decode(dtype, code) : table[code];
  }
  return values;
}

void narrow_row(Dtype dtype, const std::vector<float>& values, std::uint8_t* row) {
  for (std::size_t c = 0; c < values.size(); ++c) write_code(dtype, row, c, encode(dtype, values[c]));
}

}  // namespace crossdock::oracle
