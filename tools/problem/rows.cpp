// SPDX-License-Identifier: Apache-2.0
#include "problem/rows.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "oracle/number.hpp"

namespace crossdock::tools {
namespace {

/// Values of all codes of a type of up to 16 bits.
std::vector<float> values_of(Dtype dtype) {
  std::vector<float> values(std::size_t{1} << bits_of(dtype));
  for (std::uint32_t code = 0; code < values.size(); ++code) values[code] = oracle::decode(dtype, code);
  return values;
}

const std::vector<float>& table_of(Dtype dtype) {
  static const std::vector<float> tables[] = {
      values_of(Dtype::bf16),     values_of(Dtype::f16),          {},
      values_of(Dtype::fp8_e4m3), values_of(Dtype::fp8_e4m3fnuz), values_of(Dtype::fp4_e2m1)};
  return tables[static_cast<int>(dtype)];
}

std::uint32_t code_of(Dtype dtype, float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const bool is_number = (bits & 0x7fffffffu) <= 0x7f800000u;
  if (dtype == Dtype::bf16 && is_number) return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;  // the common case, quickly
  return oracle::encode(dtype, value);
}

float largest_in(const float* values, std::int64_t count) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
  return largest;
}

/// The scale of a block, written to `out` in its own form.
float make_scale(Dtype dtype, const float* values, std::int64_t count, std::byte* out) {
  const float largest = largest_in(values, count);
  const float limit = dtype == Dtype::fp8_e4m3 ? 448.0f : dtype == Dtype::fp8_e4m3fnuz ? 240.0f : 6.0f;
  if (bits_of(dtype) == 8) {
    const float scale = largest > 0 ? largest / limit : 1.0f;
    std::memcpy(out, &scale, sizeof scale);
    return scale;
  }
  int exponent = -127;
  if (largest > 0) exponent = std::clamp(static_cast<int>(std::ceil(std::log2(largest / limit))), -127, 127);
  *out = static_cast<std::byte>(exponent + 127);
  return std::ldexp(1.0f, exponent);
}

float read_scale(Dtype dtype, const std::byte* in) {
  if (bits_of(dtype) == 4) return std::ldexp(1.0f, static_cast<int>(*in) - 127);
  float scale;
  std::memcpy(&scale, in, sizeof scale);
  return scale;
}

}  // namespace

ScaleRule scale_rule_of(Dtype dtype) {
  if (bits_of(dtype) == 8) return {128, 4};
  if (bits_of(dtype) == 4) return {32, 1};
  return {};
}

std::int32_t scale_bytes_of(Dtype dtype, std::int32_t hidden) {
  const ScaleRule rule = scale_rule_of(dtype);
  return rule.block ? (hidden + rule.block - 1) / rule.block * rule.scale_bytes : 0;
}

std::int64_t wire_row_bytes(Dtype dtype, CombineQuant quant, std::int64_t hidden) {
  const std::int64_t codes = (hidden + 15) / 16 * 16, blocks = (hidden + 127) / 128;
  if (quant == CombineQuant::none) return row_bytes_of(dtype, hidden);
  return quant == CombineQuant::fp8_direct_cast ? codes : codes + (blocks + 15) / 16 * 16;
}

float rounded(Dtype dtype, float value) { return dtype == Dtype::f32 ? value : table_of(dtype)[code_of(dtype, value)]; }

void narrow(Dtype dtype, const float* values, std::int64_t count, std::byte* row) {
  auto* bytes = reinterpret_cast<std::uint8_t*>(row);
  if (dtype == Dtype::f32) {
    std::memcpy(row, values, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) oracle::write_code(dtype, bytes, i, code_of(dtype, values[i]));
}

void widen(Dtype dtype, const std::byte* row, std::int64_t count, float* values) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(row);
  if (dtype == Dtype::f32) {
    std::memcpy(values, row, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  const std::vector<float>& table = table_of(dtype);
  if (bits_of(dtype) == 16) {
    for (std::int64_t i = 0; i < count; ++i) values[i] = table[bytes[2 * i] | bytes[2 * i + 1] << 8];
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) values[i] = table[oracle::read_code(dtype, bytes, i)];
}

void pack(Dtype dtype, const float* values, std::int32_t hidden, std::byte* row, std::byte* scales) {
  const ScaleRule rule = scale_rule_of(dtype);
  if (!rule.block) return narrow(dtype, values, hidden, row);
  float block[128];
  for (std::int32_t first = 0; first < hidden; first += rule.block, scales += rule.scale_bytes) {
    const std::int32_t count = std::min(rule.block, hidden - first);
    const float scale = make_scale(dtype, values + first, count, scales);
    for (std::int32_t i = 0; i < count; ++i) block[i] = values[first + i] / scale;
    narrow(dtype, block, count, row + row_bytes_of(dtype, first));
  }
}

void unpack(Dtype dtype, const std::byte* row, const std::byte* scales, std::int32_t hidden, float* values) {
  widen(dtype, row, hidden, values);
  const ScaleRule rule = scale_rule_of(dtype);
  for (std::int32_t first = 0; rule.block && first < hidden; first += rule.block, scales += rule.scale_bytes) {
    const float scale = read_scale(dtype, scales);
    const std::int32_t end = std::min(first + rule.block, hidden);
    for (std::int32_t i = first; i < end; ++i) values[i] = values[i] * scale;
  }
}

}  // namespace crossdock::tools
