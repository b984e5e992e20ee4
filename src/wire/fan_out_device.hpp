// SPDX-License-Identifier: Apache-2.0
// HOW: a row crosses once. Read once, stored to each of its destinations; the threads of a warp work side by side.
// Destinations are rows to(0), ..., to(num - 1), null where there is none.
#pragma once

#include "platform/machine.hpp"
#include "types/shape.hpp"

namespace crossdock::wire {

using platform::Bytes16;

/// Loads of a lane that are in flight together: a piece of 7168 bytes takes a warp of 32 two turns.
template <class M>
inline constexpr int kInFlight = min(256 / M::kWidth, 8);
/// Units of 16 bytes that a warp reads before it stores any.
template <class M>
inline constexpr int kUnitsPerTurn = kInFlight<M>* M::kWidth;

/// What a lane holds of a turn, in which the lanes of a warp take neighbouring units. All its loads are in flight together.
template <class M>
struct Turn {
  Bytes16 bytes[kInFlight<M>] = {};
};

/// Reads a lane's units of the turn that begins at `unit`, its own first, as far as they lie before `end`.
template <class M>
XD_FN void load_turn(M& m, const std::byte* from, std::int32_t unit, std::int32_t end, Turn<M>& turn) {
  XD_UNROLL(8)
  for (int i = 0; i < kInFlight<M>; ++i)
    if (unit + i * M::kWidth < end) turn.bytes[i] = m.load16_streaming(from + std::int64_t{unit + i * M::kWidth} * 16);
}

/// Stores what load_turn has read to every destination.
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

/// Copies a short side channel of any byte count to every destination: by 16 bytes where everything is aligned, else by one.
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
