// SPDX-License-Identifier: Apache-2.0
// What a kernel leaves for the host to read without synchronising, and the words by which ranks stop one another.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"

namespace crossdock::sync {

/// What a failed wait looked for and what it saw last. Manners: see combine_mode_word(); 0 but for ranks that differ in them.
struct WaitReport {
  std::uint64_t epoch_expected, epoch_seen;
  std::uint64_t combine_mode_expected, combine_mode_seen;
};

/// The first failure of a rank. Host-visible memory; `code` is written last.
struct FailureRecord {
  std::uint64_t code;  // StatusCode, 0 = none
  std::uint64_t edge;
  std::uint64_t peer;
  std::uint64_t origin;    // rank that noticed first
  WaitReport wait_report;  // the origin's
};

/// Reports that do not end the group. Host-visible; each word is written by its own call and grows or stays.
struct ReportRecord {
  std::uint64_t rows_over;    // times that rows were dropped under Overflow::error
  std::uint64_t rows_needed;  // row capacity that would have kept all, of the last such call
  std::uint64_t expert_rows_over;
  std::uint64_t expert_rows_needed;
  std::uint64_t bad_ids;         // ids outside [-1, E), all calls
  std::uint64_t tokens_clamped;  // calls whose T on the device was outside [0, M]
  std::uint64_t last_tokens;     // the last such T
};

inline constexpr int kReasonBytes = 208;

/// Per rank and group, in memory that peers write.
struct Control {
  std::uint64_t poison[kMaxRanks];       // by origin rank; 0 = sound
  std::uint64_t deadline_ns;             // 0 = no limit
  std::uint64_t failure_claimed;         // the first failure of this rank wins
  WaitReport wait_reports[kMaxRanks];    // by origin, written before its poison
  char reason[kMaxRanks][kReasonBytes];  // text of abort, by origin
};

/// A poison word: who started it, why, whom it blames.
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

/// How a kernel reaches all that.
struct FaultView {
  Control* control[kMaxRanks];  // of every rank, as this rank maps them
  FailureRecord* failure;       // of this rank
  ReportRecord* report;         // of this rank and exchange
  std::int32_t rank;
  std::int32_t num_ranks;
};

/// Counts travel as one word: epoch above, value below. Because the word is also a permission, readers match it exactly.
inline constexpr int kValueBits = 32;
XD_FN constexpr std::uint64_t count_word(std::uint64_t epoch, std::uint64_t value) {
  return epoch << kValueBits | value;
}
XD_FN constexpr std::uint64_t epoch_of(std::uint64_t word) { return word >> kValueBits; }
/// As much of an epoch as such a word holds; it wraps after 2^32 operations, and is compared for equality only.
XD_FN constexpr std::uint64_t epoch_in_word(std::uint64_t epoch) { return epoch_of(count_word(epoch, 0)); }
XD_FN constexpr std::uint64_t value_of(std::uint64_t word) { return word & ((std::uint64_t{1} << kValueBits) - 1); }

/// `enter` and `ready` travel as one word too: epoch above, below what ranks must do alike in this combine, its mode.
inline constexpr std::uint64_t kPullsRows = 1, kFusedRows = 2, kWithWeights = 4, kNumCombineModes = 8;
XD_FN constexpr std::uint64_t combine_mode_word(std::uint64_t epoch, std::uint64_t mode) {
  return epoch * kNumCombineModes + mode;
}
XD_FN constexpr std::uint64_t epoch_of_combine_mode_word(std::uint64_t word) { return word / kNumCombineModes; }
XD_FN constexpr std::uint64_t combine_mode_of(std::uint64_t word) { return word % kNumCombineModes; }

}  // namespace crossdock::sync
