// SPDX-License-Identifier: Apache-2.0
// The loops of patterns.hpp in the words of platform/machine.hpp, as kernels spell them. `Own` has what one vendor adds: a
// fence, which stands for a kernel's end, and its bulk copies.
#pragma once

#include "litmus/patterns.hpp"
#include "platform/machine.hpp"

namespace crossdock::litmus {

inline constexpr std::uint64_t kPatienceNs = 5'000'000'000u;

/// What a block sees of its channel.
template <class M, class Own>
struct Channel {
  M& m;
  Own own;
  const Loop& loop;
  int channel;

  XD_FN bool weak(Weakening w) const { return loop.litmus.weakening == w; }
  XD_FN std::uint64_t* word(const Side& side, int idx) const { return side.words + (channel * kWords + idx) * 16; }
  XD_FN std::uint32_t* unit(const Side& side, int idx) const { return side.rows + (channel * kUnits + idx) * 4; }

  XD_FN void store(std::uint64_t* p, std::uint64_t v, bool relaxed) const {
    relaxed ? m.store_relaxed(p, v) : m.store_release(p, v);
  }
  XD_FN std::uint64_t load(const std::uint64_t* p, bool relaxed) const {
    return relaxed ? m.load_relaxed(p) : m.load_acquire(p);
  }
  /// First and last word of a unit.
  XD_FN std::uint32_t load_unit(const std::uint32_t* from, std::uint32_t& last) const {
    const platform::Bytes16 v = m.load16_streaming(from);
    last = v.word[3];
    return v.word[0];
  }
  XD_FN void violation(bool is_one) const {
    if (is_one) m.add_relaxed(&loop.near.found->violations, 1);
  }

  XD_FN bool give_up() const {
    m.add_relaxed(&loop.near.found->stuck, 1);
    m.store_relaxed(loop.stuck, 1);
    return false;
  }
  XD_FN bool wait(int idx, std::uint64_t value, bool relaxed) const {
    const std::uint64_t began = m.now_ns();
    for (int polls = 1;; ++polls) {
      if (load(word(loop.near, idx), relaxed) >= value) return true;
      if (polls % 256 == 0 && (m.load_relaxed(loop.stuck) || m.now_ns() - began > kPatienceNs)) return give_up();
      m.pause();
    }
  }
};

// Words: 0 the signal under test, 1 the answer, always strong, that ends a round, 2 of a side's own, the rounds that are over.

template <class C>
XD_FN void store_rows(const C& c, const Side& at, std::uint32_t n, int part, int parts) {
  for (int i = c.m.thread() + part * kThreads; i < kUnits; i += kThreads * parts)
    c.m.store16_streaming(c.unit(at, i), platform::Bytes16{{n, n, n, n}});
}

/// Counts units that are not `n` in their first or last word.
template <class C>
XD_FN void read_rows(const C& c, const Side& at, std::uint32_t n) {
  bool wrong = false;
  for (int i = c.m.thread(); i < kUnits; i += kThreads) {
    std::uint32_t last = 0;
    const std::uint32_t first = c.load_unit(c.unit(at, i), last);
    wrong |= first != n || last != n;
  }
  c.violation(wrong);
}

template <class C>
XD_FN bool answer_and_go_on(const C& c, std::uint64_t n) {
  c.m.sync_block();
  c.own.fence();
  if (c.m.thread() == 0) c.store(c.word(c.loop.far, 1), n, false);
  return true;
}
template <class C>
XD_FN bool await_answer(const C& c, std::uint64_t n) {
  const bool ok = c.m.thread() != 0 || c.wait(1, n, false);
  const bool all = !c.m.sync_block_or(!ok);
  c.own.fence();
  return all;
}
template <class C>
XD_FN bool await_signal(const C& c, std::uint64_t n) {
  const bool ok = c.m.thread() != 0 || c.wait(0, n, c.weak(Weakening::relaxed_wait));
  return !c.m.sync_block_or(!ok);
}
template <class C>
XD_FN void signal(const C& c, std::uint64_t n) {
  if (!c.weak(Weakening::no_barrier)) c.m.sync_block();
  if (c.m.thread() == 0) c.store(c.word(c.loop.far, 0), n, c.weak(Weakening::relaxed_signal));
}

/// As `counts`, `enter` and a pull's `ready` leave: what they tell of has been done by earlier kernels.
template <class C>
XD_FN void signal_begun(const C& c, std::uint64_t n) {
  if (c.m.thread() == 0) c.m.store_release_prior_kernels(c.word(c.loop.far, 0), n);
}

/// Two blocks store half of the rows each; the last to arrive signals, by another thread than the one that has arrived, as in
/// signal_done() and signal_ready().
template <class C>
XD_FN bool push_from_a(const C& c, std::uint64_t n, int part) {
  bool last = false;
  store_rows(c, c.loop.far, static_cast<std::uint32_t>(n), part, 2);
  if (!c.weak(Weakening::no_barrier)) c.m.sync_block();
  if (c.m.thread() == 0) {
    std::uint32_t* arrivals = c.loop.near.arrivals + c.channel;
    const std::uint32_t before =
        c.weak(Weakening::relaxed_arrival) ? c.m.add_relaxed(arrivals, 1) : c.m.add_acq_rel(arrivals, 1);
    last = before + 1 == 2 * n;
  }
  if (c.m.sync_block_or(last) && c.m.thread() == kThreads - 1)
    c.store(c.word(c.loop.far, 0), n, c.weak(Weakening::relaxed_signal));
  return await_answer(c, n);
}

template <class C>
XD_FN bool pull_from_a(const C& c, std::uint64_t n) {
  const bool tells = (c.loop.kernel == 0) == c.weak(Weakening::same_kernel);
  if (c.loop.kernel == 0) store_rows(c, c.loop.near, static_cast<std::uint32_t>(n), 0, 1);
  if (tells) signal_begun(c, n);
  return c.loop.kernel == 0 || await_answer(c, n);
}

/// B reads what A wrote in the round before, then permits A to overwrite it: `tell` leaves while the reads are under way.
template <class C, class Tell>
XD_FN void read_and_tell(const C& c, std::uint64_t n, Tell&& tell) {
  std::uint32_t first[kUnits / kThreads], last[kUnits / kThreads];
  for (int i = 0; i < kUnits / kThreads; ++i)
    first[i] = c.load_unit(c.unit(c.loop.near, c.m.thread() + i * kThreads), last[i]);
  tell();
  bool wrong = false;
  for (int i = 0; i < kUnits / kThreads; ++i) wrong |= first[i] != n - 1 || last[i] != n - 1;
  c.violation(wrong);
}
template <class C>
XD_FN bool permit_from_b(const C& c, std::uint64_t n) {
  read_and_tell(c, n, [&] { signal(c, n); });
  return await_answer(c, n);
}
/// The first kernel reads, the second permits.
template <class C>
XD_FN bool permit_later_from_b(const C& c, std::uint64_t n) {
  const bool tells = (c.loop.kernel == 0) == c.weak(Weakening::same_kernel);
  const auto tell = [&] {
    if (tells) signal_begun(c, n);
  };
  if (c.loop.kernel == 0) return read_and_tell(c, n, tell), true;
  tell();
  return await_answer(c, n);
}
template <class C>
XD_FN bool permit_from_a(const C& c, std::uint64_t n) {
  if (!await_signal(c, n)) return false;
  store_rows(c, c.loop.far, static_cast<std::uint32_t>(n), 0, 1);
  return answer_and_go_on(c, n);
}

template <class C>
XD_FN bool packets_from_a(const C& c, std::uint64_t n) {
  const auto v = static_cast<std::uint32_t>(n);
  for (int i = c.m.thread(); i < kUnits; i += kThreads) {
    std::uint32_t* to = c.unit(c.loop.far, i);
    if (!c.weak(Weakening::two_halves)) {
      c.m.store16_atomic(to, platform::Bytes16{{v, v, v, v}});
    } else {
      auto* halves = reinterpret_cast<std::uint64_t*>(to);
      for (int half = 1; half >= 0; --half) c.m.store_relaxed(halves + half, n << 32 | n);
    }
  }
  return await_answer(c, n);
}
/// A packet whose last word is there must be there as a whole.
template <class C>
XD_FN bool packets_from_b(const C& c, std::uint64_t n) {
  const std::uint64_t began = c.m.now_ns();
  bool stuck = false;
  for (int i = c.m.thread(); i < kUnits && !stuck; i += kThreads)
    for (bool here = false; !here && !stuck;) {
      const platform::Bytes16 v = c.m.load16_atomic(c.unit(c.loop.near, i));
      here = v.word[3] == n;
      c.violation(here && (v.word[0] != n || v.word[1] != n || v.word[2] != n));
      stuck = !here && (c.m.load_relaxed(c.loop.stuck) || c.m.now_ns() - began > kPatienceNs);
      if (!here) c.m.pause();
    }
  if (c.m.sync_block_or(stuck)) return c.give_up();
  return answer_and_go_on(c, n);
}

/// A's poison word goes to B before a later kernel of A spoils rows that B may still read: a fence stands for its end.
template <class C>
XD_FN bool second_look_from_a(const C& c, std::uint64_t n) {
  const bool late = c.weak(Weakening::spoils_first);
  if (late) store_rows(c, c.loop.near, static_cast<std::uint32_t>(n), 0, 1);
  c.m.sync_block();
  if (c.m.thread() == 0) c.store(c.word(c.loop.far, 0), n, false);
  c.m.sync_block();
  c.own.fence();
  if (!late) store_rows(c, c.loop.near, static_cast<std::uint32_t>(n), 0, 1);
  return await_answer(c, n);
}
/// Each thread of B reads one unit over the link, then looks, whatever it has read: a branch on it would wait for it.
/// Whoever has read a spoilt one must find the poison.
template <class C>
XD_FN bool second_look_from_b(const C& c, std::uint64_t n) {
  const std::uint64_t began = c.m.now_ns();
  bool spoilt = false, stuck = false;
  while (!spoilt && !stuck) {
    std::uint64_t poison = 0;
    std::uint32_t last = 0;
    if (c.weak(Weakening::looks_first)) poison = c.load(c.word(c.loop.near, 0), false);
    const std::uint32_t first = c.load_unit(c.unit(c.loop.far, c.m.thread()), last);
    if (!c.weak(Weakening::looks_first)) {
      if (!c.weak(Weakening::no_fence)) c.m.fence_loads();
      poison = c.load(c.word(c.loop.near, 0), false);
    }
    spoilt = first == n;
    c.violation(spoilt && poison < n);
    stuck = c.m.load_relaxed(c.loop.stuck) || c.m.now_ns() - began > kPatienceNs;
    if (!spoilt) c.m.pause();
  }
  if (c.m.sync_block_or(stuck && !spoilt)) return c.give_up();
  return answer_and_go_on(c, n);
}

template <class C>
XD_FN bool play(const C& c, std::uint64_t n, int part) {
  const Shape shape = c.loop.litmus.shape;
  if (shape == Shape::permit) return c.loop.is_a ? permit_from_a(c, n) : permit_from_b(c, n);
  if (shape == Shape::permit_later) return c.loop.is_a ? permit_from_a(c, n) : permit_later_from_b(c, n);
  if (shape == Shape::packet) return c.loop.is_a ? packets_from_a(c, n) : packets_from_b(c, n);
  if (shape == Shape::second_look) return c.loop.is_a ? second_look_from_a(c, n) : second_look_from_b(c, n);
  if (c.loop.is_a)
    return shape == Shape::push   ? push_from_a(c, n, part)
           : shape == Shape::pull ? pull_from_a(c, n)
                                  : c.own.bulk_from_a(c, n);
  if (!await_signal(c, n)) return false;
  read_rows(c, shape == Shape::pull ? c.loop.far : c.loop.near, static_cast<std::uint32_t>(n));
  return answer_and_go_on(c, n);
}

/// One kernel of a round. The last one of the round counts it, for the next to read.
template <class M, class Own>
XD_FN void run_kernel(M& m, const Channel<M, Own>& c) {
  std::uint64_t* over = c.word(c.loop.near, 2);
  const std::uint64_t n = m.load_relaxed(over) + 1;
  if (!play(c, n, 0) || c.loop.kernel + 1 < kernels_of(c.loop.litmus.shape, c.loop.is_a)) return;
  m.sync_block();
  if (m.thread() != 0) return;
  m.store_relaxed(over, n);
  m.add_relaxed(&c.loop.near.found->rounds, 1);
}

template <class M, class Own>
XD_FN void run_loop(M& m, Own own, const Loop& loop) {
  const int parts = loop.is_a && loop.litmus.shape == Shape::push ? 2 : 1, part = m.block() % parts;
  const Channel<M, Own> c{m, own, loop, m.block() / parts};
  if (has_later(loop.litmus.shape)) return run_kernel(m, c);
  int n = 1;
  while (n <= loop.rounds && play(c, static_cast<std::uint64_t>(n), part)) ++n;
  if (m.thread() == 0 && part == 0) m.add_relaxed(&loop.near.found->rounds, static_cast<std::uint32_t>(n - 1));
}

}  // namespace crossdock::litmus
