// SPDX-License-Identifier: Apache-2.0
// The value of every code of each dtype, and the code of every float, defined from the formats themselves. Results do
// not depend on the compiler's conversions or on the rounding mode.
#pragma once

#include <cstdint>
#include <vector>

#include "crossdock/types.hpp"

namespace crossdock::oracle {

/// The value of `code` (its low bits_of(dtype) bits count). Every code has one; a NaN comes out as 0x7fffffff.
float decode(Dtype dtype, std::uint32_t code);

/// The code nearest to `value`, ties to even. Past the largest finite value: Inf where the type has one (bf16, f16,
/// f32), else the largest finite value. NaN: the canonical one (bf16 and f16 0x7fff, f32 0x7fffffff, e4m3 0x7f, FNUZ
/// 0x80), in fp4 +6. The sign of zero is kept, but FNUZ has one zero.
std::uint32_t encode(Dtype dtype, float value);

/// `value` rounded to `dtype`: decode(encode(value)).
float round_to(Dtype dtype, float value);

/// Code `index` of a row (fp4: the low nibble of a byte is the even element). Little-endian bytes.
std::uint32_t read_code(Dtype dtype, const std::uint8_t* row, std::int64_t index);
void write_code(Dtype dtype, std::uint8_t* row, std::int64_t index, std::uint32_t code);

/// All `hidden` values of a row.
std::vector<float> widen_row(Dtype dtype, const std::uint8_t* row, std::int64_t hidden);
/// The row whose codes are the values rounded to `dtype`.
void narrow_row(Dtype dtype, const std::vector<float>& values, std::uint8_t* row);

}  // namespace crossdock::oracle
