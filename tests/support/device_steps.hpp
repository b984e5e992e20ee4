// SPDX-License-Identifier: Apache-2.0
// What tests do on a rank's stream without the host: choose one of several inputs, compare with one of several answers,
// wait a random or a given time, or for a word. Captured into a graph, each replay takes the next set.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"

namespace crossdock::testing {

/// A word in device memory that a stream counts up: number of the replay. Everything below reads it when it runs.
using Turn = std::uint64_t;

/// One block of memory of which there are several versions: version n begins at base + n * stride and has `bytes[n]` bytes.
/// All pointers are of the device.
struct Versions {
  const std::uint8_t* base;
  const std::uint8_t* masks;  ///< laid out as `base`: the bits that matter; null: all of them
  std::int64_t stride;
  const std::int64_t* bytes;  ///< multiples of 4
  int count;
};

/// Where a difference was found: the turn + 1 of the first one and what was compared; 0: none. `number` of them.
struct Difference {
  std::uint64_t turn, what;
  std::uint32_t number;
};

/* The steps, each a kernel of at most kStepThreads threads a block. */
#define XD_STEPS(X) X(next_turn) X(choose) X(compare) X(delay) X(pause) X(hold) X(meet)
#define XD_NAME(name) name,
enum class StepKind { XD_STEPS(XD_NAME) };
#undef XD_NAME
inline constexpr int kStepThreads = 256;
inline constexpr int kMeetBlocks = 32;  // of the step meet

/// Arguments of every step; each reads what it needs.
struct Step {
  Turn* turn = nullptr;
  std::uint32_t* words = nullptr;  ///< what is written, compared, or waited for
  Versions versions{};
  Difference* difference = nullptr;
  int what = 0, rank = 0;
  int us = 0;  ///< of pause; of delay, hold and meet the most
};

void enqueue_next_turn(StreamHandle stream, Turn* turn);
/// Copies version turn % count to `to`, but for the words of which no bit matters: those stay as they are.
void enqueue_choose(StreamHandle stream, const Turn* turn, void* to, const Versions& from);
/// Counts the words that differ from version turn % count in a bit that matters.
void enqueue_compare(StreamHandle stream, const Turn* turn, const void* is, const Versions& should, int what,
                     Difference* difference);
/// Waits 0 to `most_us`, by turn and rank; three turns of four not at all.
void enqueue_delay(StreamHandle stream, const Turn* turn, int rank, int most_us);
/* pause, hold and meet: members of Stream */

}  // namespace crossdock::testing
