// SPDX-License-Identifier: Apache-2.0
// WHAT crosses the link in combine: a wire row, the form of a row on the link, in units of 16 bytes.
//
//   none             the row itself; 16 bytes of row per unit
//   fp8_direct_cast  e4m3 codes; 16 elements per unit, zero padding to a whole unit
//   fp8_blockwise    e4m3 codes of x * 2^-e, then one byte e + 127 per 128 elements, padded to 16 bytes
#pragma once

#include "codec/pack.hpp"
#include "types/shape.hpp"

namespace crossdock::codec {

inline constexpr int kScaleBlock = 128;

/// Bytes of a wire row; a multiple of 16.
XD_FN constexpr std::int64_t wire_row_bytes(Dtype dtype, CombineQuant quant, std::int64_t hidden) {
  const std::int64_t codes = round_up<std::int64_t>(hidden, 16);
  if (quant == CombineQuant::none) return row_bytes_of(dtype, hidden);
  if (quant == CombineQuant::fp8_direct_cast) return codes;
  return codes + round_up<std::int64_t>(ceil_div<std::int64_t>(hidden, kScaleBlock), 16);
}

/// Exponent of a block for fp8_blockwise: the least e >= -127 with amax <= 448 * 2^e; 0 if amax is 0. amax must be
/// finite and not negative. 448 is the largest e4m3 value.
XD_FN constexpr int block_exponent(float amax) {
  if (amax == 0.0f) return 0;
  // 448 = 1.75 * 2^8: a mantissa above 1.75 needs the next power of two.
  std::uint32_t bits = bits_of_float(amax);
  int shift = 0;
  if (bits < 0x00800000u) {  // subnormal amax: make it normal, exactly
    bits = bits_of_float(amax * power_of_two(64));
    shift = 64;
  }
  const int e = static_cast<int>(bits >> 23) - 127 - shift - 8 + ((bits & 0x7fffffu) > 0x600000u ? 1 : 0);
  return e < -127 ? -127 : e;
}

/// 2^e, for e in [-127, 127]; 2^-127 is subnormal.
XD_FN constexpr float any_power_of_two(int e) { return e == -127 ? float_of_bits(0x00400000u) : power_of_two(e); }

template <Dtype kDtype, CombineQuant kQuant>
struct WireRow {
  using Row = Pack<kDtype>;
  static constexpr bool kCast = kQuant != CombineQuant::none;
  static constexpr int kValues = kCast ? 16 : Row::kCount;          // elements per unit
  static constexpr int kFloats = kValues / platform::kWordsAtOnce;  // `Floats` per unit
  static constexpr int kRowPacks = kValues / Row::kCount;           // 16-byte packs of the row per unit
  static constexpr int kUnitsPerBlock = kScaleBlock / 16;           // units under one exponent
  /// Packs of rows that a lane holds in registers at once.
  static constexpr int kPacksAtOnce = kQuant == CombineQuant::fp8_blockwise ? 8 : 16;
  /// Units that a lane holds in registers at once of each of 8 rows (one per rank). More would spill on sm_90.
  static constexpr int kUnitsAtOnce = kDtype == Dtype::bf16 && !kCast ? 2 : 1;

  /// Whether pack `pack` of a unit lies in the row. False only for the second pack of a short last unit.
  XD_FN static constexpr bool has_pack(std::int64_t unit, int pack, std::int64_t row_bytes) {
    return (unit * kRowPacks + pack) * 16 < row_bytes;
  }

  /// Loads the packs of a unit of a row, zeros past its end.
  template <class M>
  XD_FN static void load_packs(M& m, const std::byte* row, std::int64_t unit, std::int64_t row_bytes, Bytes16* packs) {
    XD_UNROLL(4)
    for (int p = 0; p < kRowPacks; ++p)
      packs[p] = has_pack(unit, p, row_bytes) ? m.load16_streaming(row + (unit * kRowPacks + p) * 16) : Bytes16{};
  }
  XD_FN static void widen_packs(const Bytes16* packs, Floats* values) {
    XD_UNROLL(4)
    for (int p = 0; p < kRowPacks; ++p) Row::widen(packs[p], values + p * Row::kFloats);
  }

  template <class M>
  XD_FN static void store_row(M& m, std::byte* row, std::int64_t unit, std::int64_t row_bytes, const Floats* values) {
    XD_UNROLL(2)
    for (int p = 0; p < kRowPacks; ++p)
      if (has_pack(unit, p, row_bytes))
        m.store16_streaming(row + (unit * kRowPacks + p) * 16, Row::narrow(values + p * Row::kFloats));
  }

  /// The 16 bytes of one unit on the wire. For fp8_blockwise the caller has scaled the values.
  XD_FN static Bytes16 encode(const Floats* values) {
    if constexpr (kCast)
      return Pack<Dtype::fp8_e4m3>::narrow(values);
    else
      return Row::narrow(values);
  }

  /// Values of unit `unit` of a wire row, whose 16 bytes are `raw`. byte_at(i) loads byte i of the wire row; it is used
  /// for the exponent of the unit's block.
  template <class ByteAt>
  XD_FN static void widen_wire(Bytes16 raw, std::int64_t unit, std::int64_t hidden, ByteAt&& byte_at, Floats* values) {
    if constexpr (!kCast) {
      Row::widen(raw, values);
    } else {
      Pack<Dtype::fp8_e4m3>::widen(raw, values);
      if constexpr (kQuant == CombineQuant::fp8_blockwise) {
        const std::byte exponent = byte_at(round_up<std::int64_t>(hidden, 16) + unit / kUnitsPerBlock);
        const float scale = any_power_of_two(static_cast<int>(exponent) - 127);
        XD_UNROLL(16)
        for (int i = 0; i < kFloats; ++i) values[i] = values[i] * scale;
      }
    }
  }

  /// Adds a unit's values to a sum, each sum rounded to f32.
  XD_FN static void add(const Floats* values, Floats* sum) {
    XD_UNROLL(32)
    for (int i = 0; i < kFloats; ++i) sum[i] = sum[i] + values[i];
  }
};

}  // namespace crossdock::codec
