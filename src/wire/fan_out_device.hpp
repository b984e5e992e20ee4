// SPDX-License-Identifier: Apache-2.0
// HOW a row is copied: the threads of a warp read it once and store it to each destination. Rows are in units of 16
// bytes. The destinations are to(0), ..., to(num - 1): pointers to rows; null ones are skipped.
#pragma once

#include "platform/machine.hpp"
#include "types/shape.hpp"

namespace crossdock::wire {

using platform::Bytes16;

/// Loads that a lane has in flight at once. A warp of 32 copies a part of 7168 bytes in two turns.
template <class M>
inline constexpr int kInFlight = min(256 / M::kWidth, 8);
/// Units that a warp loads before it stores any of them: one turn.
template <class M>
inline constexpr int kUnitsPerTurn = kInFlight<M>* M::kWidth;

/// The units of one turn that a lane holds in registers. The lanes of a warp hold neighbouring units.
template <class M>
struct Turn {
  Bytes16 bytes[kInFlight<M>] = {};
};

/// Loads a lane's units of one turn, as far as they lie before `end`. `unit` is the lane's first unit of the turn.
template <class M>
XD_FN void load_turn(M& m, const std::byte* from, std::int32_t unit, std::int32_t end, Turn<M>& turn) {
  XD_UNROLL(8)
  for (int i = 0; i < kInFlight<M>; ++i)
    if (unit + i * M::kWidth < end) turn.bytes[i] = m.load16_streaming(from + std::int64_t{unit + i * M::kWidth} * 16);
}

/// Stores the units that load_turn loaded to every destination.
template <class M, class To>
XD_FN void store_turn(M& m, const Turn<M>& turn, std::int32_t unit, std::int32_t end, int num, const To& to) {
  XD_UNROLL(1)
  for (int d = 0; d < num; ++d) {
    std::byte* row = to(d);
    if (!row) continue;
    XD_UNROLL(8)
    for (int i = 0; i < kInFlight<M>; ++i)
      if (unit + i * M::kWidth < end) m.store16_streaming(row + std::int64_t{unit + i * M::kWidth} * 16, turn.bytes[i]);
  }
}

/// Copies units [first, end) from `from` to every destination.
template <class M, class To>
XD_FN void fan_out(M& m, const std::byte* from, std::int32_t first, std::int32_t end, int num, const To& to) {
  Turn<M> turn;
  for (std::int32_t unit = first + m.lane(); unit < end; unit += kUnitsPerTurn<M>) {
    load_turn(m, from, unit, end, turn);
    store_turn(m, turn, unit, end, num, to);
  }
}

/// Stores one unit to every destination.
template <class M, class To>
XD_FN void store_to_all(M& m, Bytes16 bytes, std::int32_t unit, int num, const To& to) {
  XD_UNROLL(1)
  for (int d = 0; d < num; ++d)
    if (std::byte* row = to(d)) m.store16_streaming(row + std::int64_t{unit} * 16, bytes);
}

/// Copies `bytes` bytes, a few and any number, to every destination: 16 at a time if `aligned`, else one at a time.
template <class M, class To>
XD_FN void fan_out_bytes(M& m, const std::byte* from, std::int32_t bytes, bool aligned, int num, const To& to) {
  for (std::int32_t unit = m.lane(); aligned && unit < bytes / 16; unit += M::kWidth)
    store_to_all(m, m.load16_streaming(from + std::int64_t{unit} * 16), unit, num, to);
  for (std::int32_t i = m.lane(); !aligned && i < bytes; i += M::kWidth) {
    const std::byte value = from[i];
    for (int d = 0; d < num; ++d)
      if (std::byte* row = to(d)) row[i] = value;
  }
}

}  // namespace crossdock::wire
