// SPDX-License-Identifier: Apache-2.0
// Steps that kernels share: beginning, sharing out work, and finding the block that finishes last.
#pragma once

#include <bit>

#include "kernels/common/args.hpp"
#include "sync/wait_device.hpp"

namespace crossdock::kernels {

/// Threads that may tell peers something: a rank that has failed says nothing but poison, so each of them looks first.
inline constexpr int kSignalThreads = kMaxRanks * (kMaxRanks + 1);

/// What this thread reads of the peers' poison; 0 where it is no teller. Its use is record_poison(): between the two other
/// loads get under way.
template <class M>
XD_FN std::uint64_t load_poison(M& m, const Call& call) {
  if (m.thread() >= kSignalThreads) return 0;
  std::uint64_t seen = 0;
  XD_UNROLL(8)
  for (int r = 0; r < kMaxRanks; ++r)
    seen |= m.load_relaxed(&call.faults.control[call.peers.rank]->poison[r]);  // absent ranks: 0
  return seen;
}

/// Whether the group has failed, as the tellers saw it; the failure is kept. A barrier must spread the answer.
template <class M>
XD_FN bool record_poison(M& m, const Call& call, std::uint64_t load_poison) {
  // Read again in order: the host, told by fail(), reads the reason that the origin wrote before its poison.
  if (load_poison) sync::fail_by(m, call.faults, sync::poisoned(m, call.faults));
  return load_poison != 0;
}
template <class M>
XD_FN bool found_poison(M& m, const Call& call) {
  return record_poison(m, call, load_poison(m, call));
}

/// The second look, by every warp after its last read of what peers may overwrite: once a rank has failed, a kernel of
/// its caller may have written under this one's reads, and then this result must not pass for sound.
template <class M>
XD_FN void recheck_poison(M& m, const Call& call) {
  m.sync_warp();
  const std::uint64_t* poison = call.faults.control[call.peers.rank]->poison;
  for (int r = m.lane(); r < call.peers.num_ranks; r += M::kWidth)
    if (const std::uint64_t word = m.load_acquire(&poison[r]))  // edge poison: wait
      sync::fail_by(m, call.faults, word);
}

/// Threads of a block that share a step; `thread` is this one's buffer set among them, negative where it is none of them.
struct Coop {
  int thread, num_threads;
};
template <class M>
XD_FN Coop whole_block(const M& m) {
  return {m.thread(), m.num_threads()};
}

/// Sets this block's copy of what every block has one of, and its share of the copies of blocks that this launch lacks.
template <class M, class T>
XD_FN void set_copies(M& m, Coop coop, T* copies, T value) {
  if (coop.thread < 0) return;
  for (int b = m.block() + coop.thread * m.num_blocks(); b < memory::kMaxBlocks; b += coop.num_threads * m.num_blocks())
    copies[b] = value;
}

/// The number of an operation on a buffer set, and whether the one before was a combine. Every block has its own copy, so
/// that none waits for another to begin or to end.
struct Clock {
  std::uint64_t epoch;
  bool after_combine;
};
template <class M>
XD_FN Clock read_clock(M& m, const Call& call) {
  const std::uint64_t word = call.local<memory::BufferSetState>(call.buffer_set.state)->clock[m.block()];
  return {word / 2 + 1, word % 2 != 0};
}
/// Ends a block's part of operation `epoch`; after a barrier that follows read_clock.
template <class M>
XD_FN void advance_clock(M& m, Coop coop, const Call& call, std::uint64_t epoch, bool combined) {
  set_copies(m, coop, call.local<memory::BufferSetState>(call.buffer_set.state)->clock, epoch * 2 + (combined ? 1 : 0));
}

/// Takes a time stamp of this block, stored as words.
template <class M>
XD_FN void stamp(M& m, const Call& call, std::uint64_t epoch, Phase phase, bool combine, int peer) {
  struct Words {
    std::uint64_t word[sizeof(TraceEvent) / sizeof(std::uint64_t)];
  };
  const std::uint32_t taken = m.add_relaxed(call.local<std::uint32_t>(call.buffer_set.trace_head), 1);
  const TraceEvent event = {
      m.now_ns(), epoch, static_cast<std::int16_t>(m.block()), static_cast<std::int16_t>(peer), 0, phase, combine};
  call.local<Words>(call.buffer_set.trace)[taken % static_cast<std::uint32_t>(call.shape.trace_events)] =
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
  const std::int64_t first = std::int64_t{part} * each + min(part, extra);
  return {first, first + each + (part < extra ? 1 : 0)};
}

/// Units of split `split` of a row.
struct Units {
  std::int32_t first, end;
};
XD_FN constexpr Units units_of_split(std::int32_t units, int split, std::int32_t units_per_split) {
  return {min(units, split * units_per_split), min(units, (split + 1) * units_per_split)};
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
  return m.sync_block_or(last);
}

}  // namespace crossdock::kernels
