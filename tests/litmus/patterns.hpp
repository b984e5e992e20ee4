// SPDX-License-Identifier: Apache-2.0
// The orders of memory that each edge of docs/protocol.md relies on, as loops between two devices; and ways to weaken them.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"

namespace crossdock::litmus {

/* name, what A and B do in a round */
#define XD_SHAPES(X)                                                                                         \
  X(push, "A stores rows at B from two blocks, the last to arrive signals; B waits, then reads")             \
  X(pull, "A stores its own rows, its next kernel signals; B waits, then reads them over the link")          \
  X(bulk, "A sends rows by bulk copies from shared memory, waits for them and signals; B waits, then reads") \
  X(permit, "B reads its rows and signals; A waits, then overwrites them")                                   \
  X(permit_later, "B reads its rows, its next kernel signals; A waits, then overwrites them")                \
  X(packet, "A stores LL packets at B; B polls them until their last word is there")                         \
  X(second_look, "A tells B that it has failed, then spoils its own rows; B reads them over the link, then looks")

/* name, which order is left out; 0 none */
#define XD_WEAKENINGS(X)                                                         \
  X(none, "as in the kernels")                                                   \
  X(relaxed_signal, "the signal is a relaxed store")                             \
  X(same_kernel, "the signal leaves the kernel whose accesses it tells of")      \
  X(relaxed_wait, "the wait ends with a relaxed load")                           \
  X(relaxed_arrival, "blocks arrive by a relaxed addition")                      \
  X(no_barrier, "the signal does not wait for the other threads of its block")   \
  X(read_wait, "bulk copies have been read from shared memory, not yet written") \
  X(two_halves, "a packet is two stores of 8 bytes")                             \
  X(no_fence, "the look is not behind a fence")                                  \
  X(looks_first, "the look comes before the rows are there")                     \
  X(spoils_first, "the rows are spoilt before the peer is told")

#define XD_NAME(name, ...) name,
enum class Shape { XD_SHAPES(XD_NAME) };
enum class Weakening { XD_WEAKENINGS(XD_NAME) };
#undef XD_NAME

/// One loop: which edge relies on it, how it is weakened.
struct Litmus {
  Edge edge;
  Shape shape;
  Weakening weakening;
};

// clang-format off
/* edge, shape, weakening: every edge with the orders it needs, then without each of them */
#define XD_LITMUS(X)                                                                                            \
  X(counts, permit_later, none) X(counts, permit_later, same_kernel) X(counts, permit_later, relaxed_wait)      \
  X(done, push, none) X(done, push, relaxed_signal) X(done, push, relaxed_wait) X(done, push, relaxed_arrival)  \
  X(done, push, no_barrier)                                                                                     \
  X(done, bulk, none) X(done, bulk, read_wait) X(done, bulk, relaxed_signal)                                    \
  X(done, permit, none) X(done, permit, relaxed_signal) X(done, permit, no_barrier) X(done, permit, relaxed_wait) \
  X(enter, permit_later, none) X(enter, permit_later, same_kernel)                                              \
  X(ready, push, none) X(ready, push, relaxed_arrival)                                                          \
  X(ready, pull, none) X(ready, pull, same_kernel) X(ready, pull, relaxed_wait)                                 \
  X(done, packet, none) X(done, packet, two_halves) X(ready, packet, none) X(ready, packet, two_halves)                                \
  X(poison, second_look, none) X(poison, second_look, no_fence) X(poison, second_look, looks_first)             \
  X(poison, second_look, spoils_first)
// clang-format on

/// Kernels of one side in a round: more than one where the order under test is that of a kernel's end. Then a round is a few
/// kernels of a captured graph, else a turn of a loop in one kernel.
XD_FN constexpr bool has_later(Shape shape) { return shape == Shape::pull || shape == Shape::permit_later; }
XD_FN constexpr int kernels_of(Shape shape, bool is_a) {
  return has_later(shape) && is_a == (shape == Shape::pull) ? 2 : 1;
}

/// What a loop found.
struct Found {
  std::uint32_t rounds, violations, stuck;
};

inline constexpr int kThreads = 256;  // of a block
inline constexpr int kChannels = 32;  // most independent loops side by side
inline constexpr int kUnits = 512;    // 16-byte units of rows per channel
inline constexpr int kWords = 16;     // of 8 bytes per channel, each 128 bytes from the next

/// Memory of one device, zeroed before each loop.
struct Side {
  std::uint64_t* words;     // [kChannels][kWords * 16]
  std::uint32_t* rows;      // [kChannels][kUnits * 4]
  std::uint32_t* arrivals;  // [kChannels]
  Found* found;
};

/// Arguments of the kernel on one of the two devices.
struct Loop {
  Litmus litmus;
  Side near, far;        // its own device's, the other's
  std::uint64_t* stuck;  // somebody on this device has given up
  int rounds;
  int kernel;  // which one of the round
  bool is_a;
};

}  // namespace crossdock::litmus
