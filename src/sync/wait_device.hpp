// SPDX-License-Identifier: Apache-2.0
// WHEN memory may be read or written: waits for signals. A wait ends by its signal, by a peer's poison, or by the
// deadline. Each operation states its memory order.
#pragma once

#include "platform/machine.hpp"
#include "sync/status.hpp"

namespace crossdock::sync {

/// Number of polls between two checks of poison and deadline.
inline constexpr unsigned kPollsPerLook = 64;

/// The first poison word that is set on this rank, or 0.
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

/// Poisons every rank. The first failure of this rank is recorded, with `wait_report`. A later one repeats the first one's
/// poison if that is there already, else it sends its own: whoever returns from here knows that all ranks have poison.
/// Loops are not unrolled: a failure may be slow, but code size costs every call.
template <class M>
XD_FN void fail(M& m, const FaultView& faults, const Poison& poison, const WaitReport& wait_report) {
  std::uint64_t word = poison.word();
  if (m.claim(&faults.control[faults.rank]->failure_claimed, 1)) {
    FailureRecord* record = faults.failure;
    m.store_relaxed(&record->edge, static_cast<std::uint64_t>(poison.edge));
    m.store_relaxed(&record->peer, static_cast<std::uint64_t>(poison.peer));
    m.store_relaxed(&record->origin, static_cast<std::uint64_t>(poison.origin));
    store(m, &record->wait_report, wait_report);
    m.store_release(&record->code, static_cast<std::uint64_t>(poison.code));
    // The origin writes all wait_reports before any poison: a rank may read the poison from a peer that passes it on, and
    // then reads the origin's report at once.
    const int num_reports = poison.origin == faults.rank ? faults.num_ranks : 0;
    XD_UNROLL(1)
    for (int r = 0; r < num_reports; ++r) store(m, &faults.control[r]->wait_reports[faults.rank], wait_report);
  } else if (const std::uint64_t first = m.load_acquire(&faults.control[faults.rank]->poison[faults.rank])) {
    word = first;
  }
  XD_UNROLL(1)
  for (int r = 0; r < faults.num_ranks; ++r)
    m.store_release(&faults.control[r]->poison[faults.rank], word);  // edge poison: signal
}

/// The report of a poison's origin. The caller must have read the poison word with acquire.
template <class M>
XD_FN WaitReport origin_report(M& m, const FaultView& faults, const Poison& poison) {
  return load(m, &faults.control[faults.rank]->wait_reports[poison.origin]);
}
/// Records the failure in a peer's poison word and passes it on to every rank.
template <class M>
XD_FN void fail_by(M& m, const FaultView& faults, std::uint64_t word) {
  const Poison poison = Poison::of(word);
  fail(m, faults, poison, origin_report(m, faults, poison));
}

/// Polls look(&epoch) until it returns -1. Any other result is a rank that is still missing; `epoch` is then the
/// one last seen from it. False: the group has failed, and the caller skips the rest of its work.
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

/// Waits until epoch_seen(*word) is `expected` or more. Then *value is the word.
template <class M, class Seen>
XD_FN bool wait(M& m, const FaultView& faults, const std::uint64_t* word, std::uint64_t expected, Edge edge, int peer,
                Seen&& epoch_seen, std::uint64_t* value) {
  return wait_for(m, faults, expected, edge, [=, &m](std::uint64_t* epoch) {
    const std::uint64_t now = m.load_acquire(word);
    *epoch = epoch_seen(now);
    if (*epoch < expected) return peer;
    if (value) *value = now;
    return -1;
  });
}

/// Waits for a signal whose word is an epoch.
template <class M>
XD_FN bool wait_epoch(M& m, const FaultView& faults, const std::uint64_t* word, std::uint64_t expected, Edge edge,
                      int peer) {
  return wait(
      m, faults, word, expected, edge, peer, [](std::uint64_t w) { return w; }, nullptr);
}

/// Waits for the count word of exactly epoch `expected` and stores its value in *value. False: the group has failed.
template <class M>
XD_FN bool wait_count(M& m, const FaultView& faults, const std::uint64_t* word, std::uint64_t expected, int peer,
                      std::uint64_t* value) {
  const std::uint32_t tag = tag_of(expected);
  std::uint64_t seen = 0;
  const bool ok = wait_for(m, faults, epoch_of_tag(tag), Edge::counts, [=, &m, &seen](std::uint64_t* epoch) {
    const std::uint64_t now = m.load_acquire(word);  // edge counts: wait
    *epoch = epoch_of_tag(tag_in(now));
    seen = value_of(now);
    return tag_in(now) == tag ? -1 : peer;
  });
  *value = seen;
  return ok;
}

}  // namespace crossdock::sync
