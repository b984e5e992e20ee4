// SPDX-License-Identifier: Apache-2.0
// WHEN: signals with their order on the operation, and waits that end: by the signal, by a peer's poison, or by the deadline.
#pragma once

#include "platform/machine.hpp"
#include "sync/status.hpp"

namespace crossdock::sync {

/// Polls between two looks at poison and clock.
inline constexpr unsigned kPollsPerLook = 64;

/// Word of the first peer that has failed, or 0.
template <class M>
XD_FN std::uint64_t poisoned(M& m, const FaultView& faults) {
  for (int r = 0; r < faults.num_ranks; ++r) {
    const std::uint64_t word = m.load_acquire(&faults.control[faults.rank]->poison[r]);  // edge poison: wait
    if (word) return word;
  }
  return 0;
}

template <class M>
XD_FN void store(M& m, WaitReport* to, const WaitReport& wait_report) {
  m.store_relaxed(&to->epoch_expected, wait_report.epoch_expected);
  m.store_relaxed(&to->epoch_seen, wait_report.epoch_seen);
  m.store_relaxed(&to->combine_mode_expected, wait_report.combine_mode_expected);
  m.store_relaxed(&to->combine_mode_seen, wait_report.combine_mode_seen);
}
template <class M>
XD_FN WaitReport load(M& m, const WaitReport* from) {
  return {m.load_relaxed(&from->epoch_expected), m.load_relaxed(&from->epoch_seen),
          m.load_relaxed(&from->combine_mode_expected), m.load_relaxed(&from->combine_mode_seen)};
}

/// Keeps the first failure of this rank, which saw `wait_report`, and tells every peer.
template <class M>
XD_FN void fail(M& m, const FaultView& faults, const Poison& poison, const WaitReport& wait_report) {
  if (!m.claim(&faults.control[faults.rank]->failure_claimed, 1)) return;
  FailureRecord* record = faults.failure;
  m.store_relaxed(&record->edge, static_cast<std::uint64_t>(poison.edge));
  m.store_relaxed(&record->peer, static_cast<std::uint64_t>(poison.peer));
  m.store_relaxed(&record->origin, static_cast<std::uint64_t>(poison.origin));
  store(m, &record->wait_report, wait_report);
  m.store_release(&record->code, static_cast<std::uint64_t>(poison.code));
  // All wait_reports first: a peer passes the poison on, and who hears it from there reads the wait_report at once. A failure may
  // take its time, the instructions of kernels may not.
  const int to_tell = poison.origin == faults.rank ? faults.num_ranks : 0;
  XD_UNROLL(1)
  for (int r = 0; r < to_tell; ++r) store(m, &faults.control[r]->wait_reports[faults.rank], wait_report);
  XD_UNROLL(1)
  for (int r = 0; r < faults.num_ranks; ++r)
    m.store_release(&faults.control[r]->poison[faults.rank], poison.word());  // edge poison: signal
}

/// What its origin has told of a poison, whose word was read with acquire.
template <class M>
XD_FN WaitReport origin_report(M& m, const FaultView& faults, const Poison& poison) {
  return load(m, &faults.control[faults.rank]->wait_reports[poison.origin]);
}
/// Keeps the failure that a peer's word of poison has told of, and passes it on.
template <class M>
XD_FN void fail_by(M& m, const FaultView& faults, std::uint64_t word) {
  const Poison poison = Poison::of(word);
  fail(m, faults, poison, origin_report(m, faults, poison));
}

/// Polls until look(&epoch) says that nobody is waited for, -1; before, it says who is, and which epoch it has seen of that
/// rank. False: the group has failed, fall through.
template <class M, class Look>
XD_FN bool wait_for(M& m, const FaultView& faults, std::uint64_t expected, Edge edge, Look&& look) {
  std::uint64_t started = 0;
  for (unsigned polls = 1;; ++polls) {
    std::uint64_t epoch = 0;
    const int peer = look(&epoch);
    if (peer < 0) return true;
    if (polls % kPollsPerLook == 0) {
      const std::uint64_t word_of_peer = poisoned(m, faults);
      const std::uint64_t limit = m.load_relaxed(&faults.control[faults.rank]->deadline_ns), time = m.now_ns();
      if (started == 0) started = time;
      if (word_of_peer || (limit != 0 && time - started > limit)) {
        const Poison lost{StatusCode::peer_lost, edge, faults.rank, peer};
        const Poison poison = word_of_peer ? Poison::of(word_of_peer) : lost;
        fail(m, faults, poison, word_of_peer ? origin_report(m, faults, poison) : WaitReport{expected, epoch, 0, 0});
        return false;
      }
    }
    m.pause();
  }
}

/// Waits until `seen(word)` is `expected` or, unless `exact`, more.
template <class M, class Seen>
XD_FN bool wait(M& m, const FaultView& faults, const std::uint64_t* word, std::uint64_t expected, bool exact, Edge edge,
                int peer, Seen&& epoch_seen, std::uint64_t* value) {
  return wait_for(m, faults, expected, edge, [=, &m](std::uint64_t* epoch) {
    const std::uint64_t now = m.load_acquire(word);
    *epoch = epoch_seen(now);
    if (exact ? *epoch != expected : *epoch < expected) return peer;
    if (value) *value = now;
    return -1;
  });
}

/// A signal that grows with every operation.
template <class M>
XD_FN bool wait_epoch(M& m, const FaultView& faults, const std::uint64_t* word, std::uint64_t expected, Edge edge,
                      int peer) {
  return wait(
      m, faults, word, expected, false, edge, peer, [](std::uint64_t w) { return w; }, nullptr);
}

/// A count of exactly this operation.
template <class M>
XD_FN bool wait_count(M& m, const FaultView& faults, const std::uint64_t* word, std::uint64_t expected, int peer,
                      std::uint64_t* value) {
  std::uint64_t seen = 0;
  // edge counts: wait
  const bool ok = wait(
      m, faults, word, epoch_in_word(expected), true, Edge::counts, peer, [](std::uint64_t w) { return epoch_of(w); },
      &seen);
  *value = value_of(seen);
  return ok;
}

}  // namespace crossdock::sync
