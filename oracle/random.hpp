// SPDX-License-Identifier: Apache-2.0
// Random numbers as formulas: splitmix64 over words that identify an element.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace crossdock::oracle {

inline std::uint64_t splitmix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// One word that depends on all of `words` and their order.
inline std::uint64_t hash_of(std::initializer_list<std::uint64_t> words) {
  std::uint64_t h = 0;
  for (std::uint64_t w : words) h = splitmix(h ^ w);
  return h;
}

/// A sequence that starts at `state`.
class Random {
 public:
  explicit Random(std::uint64_t state) : state_(state) {}
  std::uint64_t next() { return state_ = splitmix(state_); }
  /// Uniform in [0, n), n from 1 to 2^32.
  std::int64_t below(std::int64_t n) {
    return static_cast<std::int64_t>(((next() >> 32) * static_cast<std::uint64_t>(n)) >> 32);
  }

 private:
  std::uint64_t state_;
};

}  // namespace crossdock::oracle
