// SPDX-License-Identifier: Apache-2.0
// Steps that kernels share: beginning, sharing out work, and finding the block that finishes last.
#pragma once

#include <bit>

#include "kernels/args.hpp"
#include "sync/wait_device.hpp"

namespace crossdock::kernels {

/// Threads that may tell peers something: a rank that has failed says nothing but poison, so each of them looks first.
inline constexpr int kTellers = kMaxRanks * (kMaxRanks + 1);

/// What this thread reads of the peers' poison; 0 where it is no teller. Its use is told_failure(): between the two other
/// loads get under way.
template <class M>
XD_FN std::uint64_t first_look(M& m, const Call& call) {
  if (m.thread() >= kTellers) return 0;
  std::uint64_t seen = 0;
  XD_UNROLL(8)
  for (int r = 0; r < kMaxRanks; ++r)
    seen |= m.load_relaxed(&call.watch.control[call.peers.rank]->poison[r]);  // absent ranks: 0
  return seen;
}

/// Whether the group has failed, as the tellers saw it; the failure is kept. A barrier must spread the answer.
template <class M>
XD_FN bool told_failure(M& m, const Call& call, std::uint64_t first_look) {
  // Read again in order: the host, told by fail(), reads the reason that the origin wrote before its poison.
  if (first_look) sync::fail_by(m, call.watch, sync::poisoned(m, call.watch));
  return first_look != 0;
}
template <class M>
XD_FN bool sees_failure(M& m, const Call& call) {
  return told_failure(m, call, first_look(m, call));
}

/// The second look, by every warp after its last read of what peers may overwrite: once a rank has failed, a kernel of
/// its caller may have written under this one's reads, and then this result must not pass for sound.
template <class M>
XD_FN void look_again(M& m, const Call& call) {
  m.sync_warp();
  const std::uint64_t* poison = call.watch.control[call.peers.rank]->poison;
  for (int r = m.lane(); r < call.peers.num_ranks; r += M::kWidth)
    if (const std::uint64_t word = m.load_acquire(&poison[r]))  // edge poison: wait
      sync::fail_by(m, call.watch, word);
}

/// Threads of a block that share a step; `thread` is this one's place among them, negative where it is none of them.
struct Team {
  int thread, num_threads;
};
template <class M>
XD_FN Team whole_block(const M& m) {
  return {m.thread(), m.num_threads()};
}

/// Sets this block's copy of what every block has one of, and its share of the copies of blocks that this launch lacks.
template <class M, class T>
XD_FN void set_copies(M& m, Team team, T* copies, T value) {
  if (team.thread < 0) return;
  for (int b = m.block() + team.thread * m.num_blocks(); b < memory::kMaxBlocks; b += team.num_threads * m.num_blocks())
    copies[b] = value;
}

/// The number of an operation on a place, and whether the one before was a combine. Every block has its own copy, so
/// that none waits for another to begin or to end.
struct Clock {
  std::uint64_t epoch;
  bool after_combine;
};
template <class M>
XD_FN Clock read_clock(M& m, const Call& call) {
  const std::uint64_t word = call.mine<memory::PlaceState>(call.place.state)->clock[m.block()];
  return {word / 2 + 1, word % 2 != 0};
}
/// Ends a block's part of operation `epoch`; after a barrier that follows read_clock.
template <class M>
XD_FN void advance_clock(M& m, Team team, const Call& call, std::uint64_t epoch, bool combined) {
  set_copies(m, team, call.mine<memory::PlaceState>(call.place.state)->clock, epoch * 2 + (combined ? 1 : 0));
}

/// Takes a time stamp of this block, stored as words.
template <class M>
XD_FN void stamp(M& m, const Call& call, std::uint64_t epoch, Phase phase, bool combine, int peer) {
  struct Words {
    std::uint64_t word[sizeof(TraceEvent) / sizeof(std::uint64_t)];
  };
  const std::uint32_t taken = m.add_relaxed(call.mine<std::uint32_t>(call.place.trace_head), 1);
  const TraceEvent event = {
      m.now_ns(), epoch, static_cast<std::int16_t>(m.block()), static_cast<std::int16_t>(peer), 0, phase, combine};
  call.mine<Words>(call.place.trace)[taken % static_cast<std::uint32_t>(call.shape.trace_events)] =
      std::bit_cast<Words>(event);
}
/// This block begins a phase. Nothing where tracing is off.
template <class M>
XD_FN void mark(M& m, const Call& call, std::uint64_t epoch, Phase phase, bool combine) {
  if (call.shape.trace_events != 0 && m.thread() == 0) stamp(m, call, epoch, phase, combine, -1);
}
/// This thread has seen the signal of `peer` that this block waits for in `phase`.
template <class M>
XD_FN void mark_seen(M& m, const Call& call, std::uint64_t epoch, Phase phase, bool combine, int peer) {
  if (call.shape.trace_events != 0) stamp(m, call, epoch, phase, combine, peer);
}

/// Part `idx` of `count` of [0, total), which has fewer than 2^32 items. One short division: kernels begin with this.
struct Range {
  std::int64_t first, end;
};
XD_FN constexpr Range share_of(std::int64_t total, int idx, int count) {
  const std::uint32_t all = static_cast<std::uint32_t>(total), parts = count, part = idx;
  const std::uint32_t each = all / parts, extra = all - each * parts;
  const std::int64_t first = std::int64_t{part} * each + smaller(part, extra);
  return {first, first + each + (part < extra ? 1 : 0)};
}

/// Units of piece `piece` of a row.
struct Units {
  std::int32_t first, end;
};
XD_FN constexpr Units units_of_piece(std::int32_t units, int piece, std::int32_t units_per_piece) {
  return {smaller(units, piece * units_per_piece), smaller(units, (piece + 1) * units_per_piece)};
}

/// True in every thread of the block that arrives last; it then sees all that the others have written. Once a launch.
template <class M>
XD_FN bool arrive_last(M& m, std::uint32_t* arrivals) {
  m.sync_block();
  bool last = false;
  if (m.thread() == 0) {
    last = m.add_acq_rel(arrivals, 1) + 1 == static_cast<std::uint32_t>(m.num_blocks());
    if (last) *arrivals = 0;  // for the next launch; nobody else looks at it in this one
  }
  return m.any_in_block(last);
}

}  // namespace crossdock::kernels
