// SPDX-License-Identifier: Apache-2.0
// Failure and report records, which the host reads without synchronising, and the words by which ranks signal and stop
// each other.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"

namespace crossdock::sync {

/// The value that a failed wait expected, and the last one that it saw. The modes are those of combine_mode_word();
/// they are 0 unless the wait failed because two ranks use different modes.
struct WaitReport {
  std::uint64_t epoch_expected, epoch_seen;
  std::uint64_t combine_mode_expected, combine_mode_seen;
};

/// The first failure of a rank. In host-visible memory; a release store writes `code` last.
struct FailureRecord {
  std::uint64_t code;  // StatusCode, 0: none
  std::uint64_t edge;
  std::uint64_t peer;
  std::uint64_t origin;    // rank on which the first wait failed
  WaitReport wait_report;  // of that wait
};

/// Reports that do not end the group. In host-visible memory. Calls of one exchange write it; the counters never
/// decrease.
struct ReportRecord {
  std::uint64_t rows_over;         // calls that dropped rows under Overflow::error
  std::uint64_t rows_needed;       // row_capacity that would have dropped none, of the last such call
  std::uint64_t expert_rows_over;  // the same two for expert_capacity
  std::uint64_t expert_rows_needed;
  std::uint64_t bad_ids;         // ids outside [-1, E), of all calls
  std::uint64_t tokens_clamped;  // calls whose T on the device was outside [0, M]
  std::uint64_t last_tokens;     // T of the last such call
};

inline constexpr int kReasonBytes = 208;

/// Control words of one rank in a group, in memory that peers write.
struct Control {
  std::uint64_t poison[kMaxRanks];       // Poison::word(), by the rank that wrote it; 0: none
  std::uint64_t deadline_ns;             // 0: no limit
  std::uint64_t failure_claimed;         // 0 until the first failure of this rank, which sets it
  WaitReport wait_reports[kMaxRanks];    // by origin; written before the origin's poison
  char reason[kMaxRanks][kReasonBytes];  // text of abort, by origin
};

/// The content of a poison word, by which a failed rank stops its peers: the rank whose wait failed first (origin), the
/// code and edge of that failure, and the rank for which it waited (peer). Bit 0 of the word is set, so it is never 0.
struct Poison {
  StatusCode code;
  Edge edge;
  int origin;
  int peer;

  XD_FN constexpr std::uint64_t word() const {
    return 1u | static_cast<std::uint64_t>(code) << 8 | static_cast<std::uint64_t>(edge) << 16 |
           static_cast<std::uint64_t>(origin) << 24 | static_cast<std::uint64_t>(peer) << 32;
  }
  XD_FN static constexpr Poison of(std::uint64_t word) {
    return {static_cast<StatusCode>(word >> 8 & 255), static_cast<Edge>(word >> 16 & 255),
            static_cast<int>(word >> 24 & 255), static_cast<int>(word >> 32 & 255)};
  }
};

/// Pointers by which a kernel accesses these records.
struct FaultView {
  Control* control[kMaxRanks];  // of every rank, as this rank maps them
  FailureRecord* failure;       // of this rank
  ReportRecord* report;         // of this rank and exchange
  std::int32_t rank;
  std::int32_t num_ranks;
};

/// The tag of an epoch: 32 bits that mark a word or a packet as written in that epoch. It is never 0, the value of
/// fresh memory. It repeats after 2^31 operations of a buffer set.
XD_FN constexpr std::uint32_t tag_of(std::uint64_t epoch) { return static_cast<std::uint32_t>(epoch * 2 + 1); }
/// The epoch of a tag, modulo 2^31, for error texts; 0 for fresh memory.
XD_FN constexpr std::uint64_t epoch_of_tag(std::uint32_t tag) { return tag / 2; }

/// A count is published as one word: the tag of the epoch in its upper 32 bits, the value in its lower. Readers compare
/// tags for equality, because the value belongs to exactly one dispatch.
XD_FN constexpr std::uint64_t count_word(std::uint64_t epoch, std::uint64_t value) {
  return std::uint64_t{tag_of(epoch)} << 32 | value;
}
XD_FN constexpr std::uint32_t tag_in(std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); }
XD_FN constexpr std::uint64_t value_of(std::uint64_t word) { return static_cast<std::uint32_t>(word); }

/// The words of `enter` and `ready`: epoch * 8 + combine mode. The mode must be equal on all ranks.
inline constexpr std::uint64_t kPullsRows = 1, kFusedRows = 2, kWithWeights = 4, kNumCombineModes = 8;
XD_FN constexpr std::uint64_t combine_mode_word(std::uint64_t epoch, std::uint64_t mode) {
  return epoch * kNumCombineModes + mode;
}
XD_FN constexpr std::uint64_t epoch_of_combine_mode_word(std::uint64_t word) { return word / kNumCombineModes; }
XD_FN constexpr std::uint64_t combine_mode_of(std::uint64_t word) { return word % kNumCombineModes; }

}  // namespace crossdock::sync
