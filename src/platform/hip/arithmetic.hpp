// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the HIP machine: lanes, reductions over lanes, clock ticks, names of architectures. Plain C++, so
// that any compiler can test it.
#pragma once

#include <cstdint>
#include <string_view>

#include "platform/attributes.hpp"

namespace crossdock::platform::hip {

/// Lane of a thread of a block, in waves of `width`, a power of two.
XD_FN constexpr int lane_of(int thread, int width) { return thread & (width - 1); }
XD_FN constexpr int warp_of(int thread, int width) {
  return static_cast<int>(static_cast<unsigned>(thread) / static_cast<unsigned>(width));
}

/// The partner of a lane in step 1, 2, 4 ... of a butterfly. Both are in the same aligned group of 2 * step lanes.
XD_FN constexpr int partner_of(int lane, int step) { return lane ^ step; }
/// The address of a lane for ds_bpermute.
XD_FN constexpr int permute_address(int lane) { return lane * 4; }

/// Reduces v with `join` over each aligned group of `n` lanes; every lane gets the result. exchanged(v, step) is the
/// partner's value.
template <class T, class Exchanged, class Join>
XD_FN constexpr T butterfly(T v, int n, Exchanged exchanged, Join join) {
  for (int step = 1; step < n; step *= 2) v = join(v, exchanged(v, step));
  return v;
}

/// Lanes per wave on CDNA.
inline constexpr int kWidth = 64;

/// Frequency of the constant clock that s_memrealtime reads. The host half checks it against the driver's attribute.
inline constexpr int kClockKhz = 100'000;
XD_FN constexpr std::uint64_t ns_of_ticks(std::uint64_t ticks) { return ticks * (1'000'000u / kClockKhz); }

/// `gfx942` is version 9.4, stepping 2; minor and stepping are one hexadecimal digit each.
struct Architecture {
  int major = 0, minor = 0, stepping = 0;
  constexpr bool operator==(const Architecture&) const = default;
};
/// Parses the name of an architecture; all zero if it is none.
constexpr Architecture architecture_of(std::string_view name) {
  const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  if (name.size() < 6 || name.size() > 7 || name.substr(0, 3) != "gfx") return {};
  Architecture a;
  for (const char c : name.substr(3, name.size() - 5)) {
    if (c < '0' || c > '9') return {};
    a.major = a.major * 10 + digit(c);
  }
  a.minor = digit(name[name.size() - 2]);
  a.stepping = digit(name[name.size() - 1]);
  return a.minor < 0 || a.stepping < 0 ? Architecture{} : a;
}

}  // namespace crossdock::platform::hip
