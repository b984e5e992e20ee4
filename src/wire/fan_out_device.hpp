// SPDX-License-Identifier: Apache-2.0
// HOW: a row crosses once. Read once, stored to each of its destinations; the threads of a warp work side by side.
#pragma once

#include "platform/machine.hpp"
#include "types/shape.hpp"

namespace crossdock::wire {

using platform::Bytes16;

/// Most destinations of one fan_out.
inline constexpr int kMaxFan = 8;
/// Independent loads in flight per thread.
inline constexpr int kInFlight = 4;

/// Destinations; null where there is none. Indexed by constants only, so that it stays in registers.
struct Fan {
  std::byte* to[kMaxFan] = {};
};

/// Stores one unit to every destination.
template <class M>
XD_FN void store_to_all(M& m, Bytes16 bytes, const Fan& fan, std::int32_t unit) {
  XD_UNROLL(8)
  for (int d = 0; d < kMaxFan; ++d)
    if (fan.to[d]) m.store16_away(fan.to[d] + std::int64_t{unit} * 16, bytes);
}

/// Copies units [first, end) of 16 bytes from `from` to every destination.
template <class M>
XD_FN void fan_out(M& m, const std::byte* from, const Fan& fan, std::int32_t first, std::int32_t end) {
  std::int32_t unit = first + m.lane();
  for (; unit + (kInFlight - 1) * M::kWidth < end; unit += kInFlight * M::kWidth) {
    Bytes16 bytes[kInFlight];
    XD_UNROLL(4)
    for (int i = 0; i < kInFlight; ++i) bytes[i] = m.load16_once(from + std::int64_t{unit + i * M::kWidth} * 16);
    XD_UNROLL(8)
    for (int d = 0; d < kMaxFan; ++d) {
      if (!fan.to[d]) continue;
      XD_UNROLL(4)
      for (int i = 0; i < kInFlight; ++i) m.store16_away(fan.to[d] + std::int64_t{unit + i * M::kWidth} * 16, bytes[i]);
    }
  }
  for (; unit < end; unit += M::kWidth) store_to_all(m, m.load16_once(from + std::int64_t{unit} * 16), fan, unit);
}

/// Copies a side channel of any byte count to every destination: by 16 bytes where everything is aligned, else by one.
template <class M>
XD_FN void fan_out_bytes(M& m, const std::byte* from, const Fan& fan, std::int32_t bytes, bool aligned) {
  if (aligned) return fan_out(m, from, fan, 0, bytes / 16);
  for (std::int32_t i = m.lane(); i < bytes; i += M::kWidth) {
    const std::byte value = from[i];
    XD_UNROLL(8)
    for (int d = 0; d < kMaxFan; ++d)
      if (fan.to[d]) fan.to[d][i] = value;
  }
}

}  // namespace crossdock::wire
