// SPDX-License-Identifier: Apache-2.0
// Steps that kernels share: beginning, sharing out work, and finding the block that finishes last.
#pragma once

#include <bit>

#include "kernels/common/args.hpp"
#include "sync/wait_device.hpp"

namespace crossdock::kernels {

/// Most threads of a block that signal peers. Each of them checks for poison first, because a failed rank must not
/// signal. (Poison is a word by which a failed rank stops its peers, see sync/status.hpp.)
inline constexpr int kSignalThreads = kMaxRanks * (kMaxRanks + 1);

/// Issues the loads of the poison words early, so that they overlap other loads; record_poison() uses the result. 0 for
/// threads that never signal.
template <class M>
XD_FN std::uint64_t load_poison(M& m, const Call& call) {
  if (m.thread() >= kSignalThreads) return 0;
  std::uint64_t seen = 0;
  XD_UNROLL(8)
  for (int r = 0; r < kMaxRanks; ++r)
    seen |= m.load_relaxed(&call.faults.control[call.peers.rank]->poison[r]);  // absent ranks: 0
  return seen;
}

/// True if load_poison() has read poison; then it also records the failure. Only threads that signal know the answer,
/// so a barrier must pass it to the others of the block.
template <class M>
XD_FN bool record_poison(M& m, const Call& call, std::uint64_t seen) {
  // poisoned() loads again, with acquire: the first rank to fail writes its reason before its poison, and the host
  // reads the reason once fail() has recorded the failure.
  if (seen) sync::fail_by(m, call.faults, sync::poisoned(m, call.faults));
  return seen != 0;
}
/// Both steps at once.
template <class M>
XD_FN bool found_poison(M& m, const Call& call) {
  return record_poison(m, call, load_poison(m, call));
}

/// Checks for poison again, in every warp, after its last read of memory that peers may overwrite. When a rank has
/// failed, the kernels of its caller still run and may overwrite what this warp reads. Then this call must fail too,
/// not return a wrong result.
template <class M>
XD_FN void recheck_poison(M& m, const Call& call) {
  m.fence_loads();
  m.sync_warp();
  const std::uint64_t* poison = call.faults.control[call.peers.rank]->poison;
  for (int r = m.lane(); r < call.peers.num_ranks; r += M::kWidth)
    if (const std::uint64_t word = m.load_acquire(&poison[r]))  // edge poison: wait
      sync::fail_by(m, call.faults, word);
}

/// The threads of a block that share a step. `thread` is the index of this thread among them; negative: it takes no
/// part.
struct Coop {
  int thread, num_threads;
};
template <class M>
XD_FN Coop whole_block(const M& m) {
  return {m.thread(), m.num_threads()};
}

/// Stores `value` to `copies`, an array with an element per block. This block sets its own element. The next launch may
/// have more blocks, so the blocks of this launch also share the elements above num_blocks().
template <class M, class T>
XD_FN void set_copies(M& m, Coop coop, T* copies, T value) {
  if (coop.thread < 0) return;
  for (int b = m.block() + coop.thread * m.num_blocks(); b < memory::kMaxBlocks; b += coop.num_threads * m.num_blocks())
    copies[b] = value;
}

/// The epoch of this operation, and whether the operation before it was a combine. An epoch is the number of an
/// operation on its buffer set, counted from 1. It is kept in device memory, so a captured graph can be replayed. Every
/// block has its own copy, so that no block waits for another one to read or to advance it.
struct Clock {
  std::uint64_t epoch;
  bool after_combine;
};
template <class M>
XD_FN Clock read_clock(M& m, const Call& call) {
  const std::uint64_t word = call.local<memory::BufferSetState>(call.buffer_set.state)->clock[m.block()];
  return {word / 2 + 1, word % 2 != 0};
}
/// Stores that this block has completed operation `epoch`. All threads read the clock, so a barrier must come between
/// read_clock() and this.
template <class M>
XD_FN void advance_clock(M& m, Coop coop, const Call& call, std::uint64_t epoch, bool combined) {
  set_copies(m, coop, call.local<memory::BufferSetState>(call.buffer_set.state)->clock, epoch * 2 + (combined ? 1 : 0));
}

/// Adds a time stamp to the trace, a ring buffer, in stores of 64 bits.
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
/// Stamps that this block begins a phase; no-op if tracing is off.
template <class M>
XD_FN void mark(M& m, const Call& call, std::uint64_t epoch, Phase phase, bool combine) {
  if (call.shape.trace_events != 0 && m.thread() == 0) stamp(m, call, epoch, phase, combine, -1);
}
/// Stamps that this thread has seen the signal of `peer` for which its block waits in `phase`.
template <class M>
XD_FN void mark_seen(M& m, const Call& call, std::uint64_t epoch, Phase phase, bool combine, int peer) {
  if (call.shape.trace_events != 0) stamp(m, call, epoch, phase, combine, peer);
}

/// Items [first, end).
struct Range {
  std::int64_t first, end;
};
/// Part `idx` of [0, total), cut into `count` parts. The first total % count parts have one item more than the others.
/// total < 2^32, so that one division of 32 bits is enough. Every kernel starts with this division, so its time counts.
XD_FN constexpr Range share_of(std::int64_t total, int idx, int count) {
  const std::uint32_t all = static_cast<std::uint32_t>(total), parts = count, part = idx;
  const std::uint32_t each = all / parts, extra = all - each * parts;
  const std::int64_t first = std::int64_t{part} * each + min(part, extra);
  return {first, first + each + (part < extra ? 1 : 0)};
}

/// Units [first, end) of a row; a unit is 16 bytes.
struct Units {
  std::int32_t first, end;
};
/// Units of split `split` of a row.
XD_FN constexpr Units units_of_split(std::int32_t units, int split, std::int32_t units_per_split) {
  return {min(units, split * units_per_split), min(units, (split + 1) * units_per_split)};
}

/// Counts this block as finished. Returns true in all threads of the block that finishes last; that block then sees
/// everything that the other blocks have written. At most once per launch, because the last block resets the counter.
template <class M>
XD_FN bool arrive_last(M& m, std::uint32_t* arrivals) {
  m.sync_block();
  bool last = false;
  if (m.thread() == 0) {
    last = m.add_acq_rel(arrivals, 1) + 1 == static_cast<std::uint32_t>(m.num_blocks());
    if (last) *arrivals = 0;  // for the next launch; all blocks of this one have arrived
  }
  return m.sync_block_or(last);
}

}  // namespace crossdock::kernels
