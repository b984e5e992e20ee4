// SPDX-License-Identifier: Apache-2.0
// Bodies of the tools' kernels, `G` being the words of a vendor. The including file says by XD_BODY how its compiler marks
// functions of a kernel.
#pragma once

#include "gpu/kernels.hpp"

namespace crossdock::tools::gpu {

template <class G>
XD_BODY void pass_gate(G g, const Site& site) {
  if (g.thread() == 0) {
    while (g.load_acquire(site.gate) == 0) g.pause();
    g.lower(&site.clock->begin, g.now_ns());
  }
  g.sync_block();
}

template <class G>
XD_BODY void leave(G g, const Site& site) {
  g.await_arrival();  // of what was stored
  g.sync_block();
  if (g.thread() == 0) g.raise(&site.clock->end, g.now_ns());
}

/// The device that row `row` goes to or comes from: each row of a device has one writer.
XD_BODY int peer_of(const Site& site, int row) {
  return site.count == 1 ? 0 : (site.me + 1 + row % (site.count - 1)) % site.count;
}

/// Rows of this size in a device's memory.
template <int kBytes>
XD_BODY int rows_of(const Site& site) {
  static_assert(kRowBytes % kBytes == 0);
  return site.work.rows * (kRowBytes / kBytes);
}

/// Of this thread's warp: its number among all, and how many there are.
template <class G>
XD_BODY int num_warps(G g) {
  return g.num_blocks() * (g.num_threads() / G::kWidth);
}
template <class G>
XD_BODY int warp_of(G g) {
  return g.block() * (g.num_threads() / G::kWidth) + g.thread() / G::kWidth;
}

/// A warp copies a row of `kBytes`, `kAtOnce` units at once.
template <int kBytes, int kAtOnce, class G>
XD_BODY void copy_row(G g, const std::byte* from, std::byte* to) {
  constexpr int kUnitBytes = 16, kInFlight = kAtOnce / G::kWidth, kStride = G::kWidth * kUnitBytes;
  static_assert(kBytes % (kAtOnce * kUnitBytes) == 0 && kAtOnce % G::kWidth == 0, "no row has a tail");
  using Unit = decltype(g.load16_streaming(nullptr));
  const int mine = g.thread() % G::kWidth * kUnitBytes;
  from += mine, to += mine;
  for (int done = 0; done < kBytes; done += kAtOnce * kUnitBytes) {
    Unit v[kInFlight];
    for (int i = 0; i < kInFlight; ++i) v[i] = g.load16_streaming(from + done + i * kStride);
    for (int i = 0; i < kInFlight; ++i) g.store16_streaming(to + done + i * kStride, v[i]);
  }
}

/// A warp takes a row of `kBytes` at a time.
template <bool kPull, int kBytes, int kAtOnce, class G>
XD_BODY void move(G g, const Site& site) {
  pass_gate(g, site);
  for (int pass = 0; pass < site.work.passes; ++pass)
    for (int row = warp_of(g); row < rows_of<kBytes>(site); row += num_warps(g)) {
      const int peer = peer_of(site, row);
      const std::int64_t at = std::int64_t{row} * kBytes;
      copy_row<kBytes, kAtOnce>(g, site.from[kPull ? peer : site.me] + at, site.to[kPull ? site.me : peer] + at);
    }
  leave(g, site);
}
template <class G>
XD_BODY void push(G g, const Site& site) {
  move<false, kRowBytes, 128>(g, site);
}
template <class G>
XD_BODY void push_short(G g, const Site& site) {
  move<false, kShortRowBytes, 448>(g, site);
}
template <class G>
XD_BODY void pull(G g, const Site& site) {
  move<true, kRowBytes, 128>(g, site);
}

/// A warp takes as many rows as any other, one behind the other in the order of the peers: all peers are sent to all the time,
/// by warps in proportion. Each device writes rows of its own in a peer's memory, over and over if they are few.
template <class G>
XD_BODY void push_pattern(G g, const Pattern& pattern) {
  const Site& site = pattern.site;
  const int rows_each = site.work.rows / site.count;
  pass_gate(g, site);
  std::int64_t all = 0;
  for (int d = 0; d < site.count; ++d) all += pattern.rows_to[d];
  const std::int64_t begin = all * warp_of(g) / num_warps(g), end = all * (warp_of(g) + 1) / num_warps(g);
  int peer = 0;
  std::int64_t before = 0;  // rows to peers in front of this one
  for (std::int64_t row = begin; row < end; ++row) {
    while (row - before >= pattern.rows_to[peer]) before += pattern.rows_to[peer++];
    const auto idx = static_cast<int>((row - before) % rows_each);
    const auto at = [&](int device) { return (std::int64_t{device} * rows_each + idx) * kRowBytes; };
    copy_row<kRowBytes, 128>(g, site.from[site.me] + at(peer), site.to[peer] + at(site.me));
  }
  leave(g, site);
}

/// Word [source] of device `to`.
XD_BODY std::uint64_t* word_of(const Site& site, int to, int source) {
  return reinterpret_cast<std::uint64_t*>(site.to[to]) + source;
}
template <class G>
XD_BODY void await(G g, const std::uint64_t* word, std::uint64_t value) {
  while (g.load_acquire(word) < value) g.poll();
}

/// A word to the other device and one back.
template <class G>
XD_BODY void ping_pong(G g, const Site& site) {
  pass_gate(g, site);
  for (int round = 1; g.thread() == 0 && round <= site.work.rounds; ++round) {
    const auto value = static_cast<std::uint64_t>(round);
    if (site.me == 1) await(g, word_of(site, 1, 0), value);
    g.store_release(word_of(site, 1 - site.me, site.me), value);
    if (site.me == 0) await(g, word_of(site, 0, 1), value);
  }
  leave(g, site);
}

/// Every device tells every other and waits for all.
template <class G>
XD_BODY void meet(G g, const Site& site, std::uint64_t value) {
  if (g.thread() < site.count) {
    g.store_release(word_of(site, g.thread(), site.me), value);
    await(g, word_of(site, site.me, g.thread()), value);
  }
  g.sync_block();
}

template <class G>
XD_BODY void barriers(G g, const Site& site) {
  pass_gate(g, site);
  for (int round = 1; round <= site.work.rounds; ++round) meet(g, site, static_cast<std::uint64_t>(round));
  leave(g, site);
}

/// The next round of `barriers`, as a kernel that a graph can hold many times: the word to itself tells a device how many it
/// has had.
template <class G>
XD_BODY void one_barrier(G g, const Site& site) {
  const std::uint64_t had = g.load_acquire(word_of(site, site.me, site.me));
  g.sync_block();  // every thread has read it
  meet(g, site, had + 1);
}

template <class G>
XD_BODY void nothing(G, const Nothing&) {}

}  // namespace crossdock::tools::gpu
