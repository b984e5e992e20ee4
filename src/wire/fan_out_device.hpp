// SPDX-License-Identifier: Apache-2.0
// HOW rows move: a warp loads a row once and stores it to each of its destinations. Neighbouring lanes take
// neighbouring units of 16 bytes.
// Destinations are the addresses to(0), ..., to(num - 1); null ones are skipped.
#pragma once

#include "types/shape.hpp"
#include "wire/peer.hpp"

namespace crossdock::wire {

/// Loads of a lane that are in flight together. A warp of 32 moves 4096 bytes per turn, 7168 bytes in two turns.
template <class M>
inline constexpr int kInFlight = min(256 / M::kWidth, 8);
/// Units that a warp loads before it stores any.
template <class M>
inline constexpr int kUnitsPerTurn = kInFlight<M>* M::kWidth;

/// What a lane holds between loads and stores: units that are kWidth apart, so that neighbouring lanes have
/// neighbouring units.
template <class M>
struct Turn {
  Bytes16 bytes[kInFlight<M>] = {};
};

/// Loads a lane's units of the turn, its first at `unit`, as far as they lie before `end`. All loads are in flight
/// together.
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
    const PeerPtr row = to(d);
    if (!row) continue;
    XD_UNROLL(8)
    for (int i = 0; i < kInFlight<M>; ++i)
      if (unit + i * M::kWidth < end) (row + std::int64_t{unit + i * M::kWidth} * 16).put16(m, turn.bytes[i]);
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
    if (const PeerPtr row = to(d)) (row + std::int64_t{unit} * 16).put16(m, bytes);
}

/// Copies `bytes` bytes, for example scales, to every destination: 16 at a time if `aligned`, else one at a time.
template <class M, class To>
XD_FN void fan_out_bytes(M& m, const std::byte* from, std::int32_t bytes, bool aligned, int num, const To& to) {
  for (std::int32_t unit = m.lane(); aligned && unit < bytes / 16; unit += M::kWidth)
    store_to_all(m, m.load16_streaming(from + std::int64_t{unit} * 16), unit, num, to);
  for (std::int32_t i = m.lane(); !aligned && i < bytes; i += M::kWidth) {
    const std::byte value = from[i];
    for (int d = 0; d < num; ++d)
      if (const PeerPtr row = to(d)) (row + i).put(value);
  }
}

}  // namespace crossdock::wire
