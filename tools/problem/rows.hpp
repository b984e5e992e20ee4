// SPDX-License-Identifier: Apache-2.0
// What a model does with rows at the border of dispatch and combine: floats to rows of a dtype, with scales where the
// type is too coarse without, and back. fp8: an f32 scale per 128 elements. fp4: a power of two, one byte, per 32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "crossdock/types.hpp"

namespace crossdock::tools {

struct ScaleRule {
  int block = 0;        ///< elements that share a scale; 0: none
  int scale_bytes = 0;  ///< bytes of one scale
};
ScaleRule scale_rule_of(Dtype dtype);

/// Bytes of scales that travel with a row of `hidden` elements.
std::int32_t scale_bytes_of(Dtype dtype, std::int32_t hidden);

/// Bytes of a row of combine as it crosses the link.
std::int64_t wire_row_bytes(Dtype dtype, CombineQuant quant, std::int64_t hidden);

/// `value` as `dtype` can hold it.
float rounded(Dtype dtype, float value);

/// Element by element, no scales.
void narrow(Dtype dtype, const float* values, std::int64_t count, std::byte* row);
void widen(Dtype dtype, const std::byte* row, std::int64_t count, float* values);

/// With scales, by the dtype's rule.
void pack(Dtype dtype, const float* values, std::int32_t hidden, std::byte* row, std::byte* scales);
void unpack(Dtype dtype, const std::byte* row, const std::byte* scales, std::int32_t hidden, float* values);

}  // namespace crossdock::tools
