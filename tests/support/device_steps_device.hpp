// SPDX-License-Identifier: Apache-2.0
// What the steps do, on any machine.
#pragma once

#include "platform/attributes.hpp"
#include "support/device_steps.hpp"

namespace crossdock::testing {

template <class M>
XD_FN void next_turn(M& m, const Step& s) {
  if (m.thread() == 0) ++*s.turn;
}

/// Number of the version that is in turn, and where it lies.
XD_FN int version_of(const Step& s) { return static_cast<int>(*s.turn % static_cast<unsigned>(s.versions.count)); }
XD_FN const std::uint32_t* words_of(const Step& s) {
  return reinterpret_cast<const std::uint32_t*>(s.versions.base + version_of(s) * s.versions.stride);
}
/// Which bits of word `i` of it matter.
XD_FN std::uint32_t mask_of(const Step& s, std::int64_t i) {
  if (!s.versions.masks) return ~std::uint32_t{0};
  return reinterpret_cast<const std::uint32_t*>(s.versions.masks + version_of(s) * s.versions.stride)[i];
}

template <class M>
XD_FN void choose(M& m, const Step& s) {
  const std::uint32_t* from = words_of(s);
  const std::int64_t count = s.versions.bytes[version_of(s)] / 4, all = m.num_blocks() * m.num_threads();
  for (std::int64_t i = m.block() * m.num_threads() + m.thread(); i < count; i += all)
    if (mask_of(s, i)) s.words[i] = from[i];
}

template <class M>
XD_FN void compare(M& m, const Step& s) {
  const std::uint32_t* should = words_of(s);
  const std::int64_t count = s.versions.bytes[version_of(s)] / 4, all = m.num_blocks() * m.num_threads();
  for (std::int64_t i = m.block() * m.num_threads() + m.thread(); i < count; i += all) {
    if (((s.words[i] ^ should[i]) & mask_of(s, i)) == 0 || m.add_relaxed(&s.difference->number, 1) != 0) continue;
    s.difference->turn = *s.turn + 1;
    s.difference->what = static_cast<std::uint64_t>(s.what);
  }
}

/* Waits by the machine's clock: they end whatever the host does. */
XD_FN std::uint64_t ns_of(const Step& s) { return static_cast<std::uint64_t>(s.us) * 1000; }
template <class M>
XD_FN void wait_ns(M& m, std::uint64_t ns) {
  const std::uint64_t began = m.now_ns();
  while (m.now_ns() - began < ns) m.pause();
}

template <class M>
XD_FN void delay(M& m, const Step& s) {
  const std::uint64_t draw = (*s.turn * 8 + static_cast<unsigned>(s.rank)) * 0x9e3779b97f4a7c15u >> 33;
  wait_ns(m, draw % 4 ? 0 : draw / 4 % static_cast<unsigned>(s.us) * 1000);
}

template <class M>
XD_FN void pause(M& m, const Step& s) {
  wait_ns(m, ns_of(s));
}

/// The word is written once, from outside of the stream.
template <class M>
XD_FN void hold(M& m, const Step& s) {
  if (m.thread() != 0) return;
  const std::uint64_t began = m.now_ns();
  while (m.add_acq_rel(s.words, 0) == 0 && m.now_ns() - began < ns_of(s)) m.pause();
}

/// Stands for a collective of others: light blocks that wait until all blocks of all ranks have begun. words[0] counts
/// them, over all meetings so far; words[1] counts those that have waited too long.
template <class M>
XD_FN void meet(M& m, const Step& s) {
  if (m.thread() != 0) return;
  m.add_acq_rel(s.words, 1);
  const std::uint64_t began = m.now_ns();
  while (m.add_acq_rel(s.words, 0) < static_cast<std::uint32_t>(s.what)) {
    if (m.now_ns() - began > ns_of(s)) return void(m.add_relaxed(s.words + 1, 1));
    m.pause();
  }
}

}  // namespace crossdock::testing
