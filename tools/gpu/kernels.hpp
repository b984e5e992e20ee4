// SPDX-License-Identifier: Apache-2.0
// What the tools themselves run on a GPU: a list of kernels with their arguments. The bodies are in kernels_device.hpp;
// each vendor's folder compiles them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crossdock::tools::gpu {

inline constexpr int kMoveThreads = 512, kWordThreads = 64;
inline constexpr int kMaxDevices = 8, kRowBytes = 14336, kShortRowBytes = 7168;

/// How much a measurement does: rows of kRowBytes, or twice as many short ones, and passes over them, rounds of latencies.
struct Work {
  int rows, passes, rounds;
};

struct Clock {
  std::uint64_t begin, end;
};

/// Arguments: one device's part of a measurement. All devices begin behind a gate in host memory, which opens when every
/// kernel has been launched; a device's time runs from its first block past the gate to its last block done, by its own
/// clock.
struct Site {
  std::byte* from[kMaxDevices];  // of every device
  std::byte* to[kMaxDevices];
  Clock* clock;
  const std::uint64_t* gate;
  Work work;
  int me, count;
};

/// Arguments: one device's part of a copy in which devices send one another different numbers of rows.
struct Pattern {
  Site site;
  int rows_to[kMaxDevices];
};

struct Nothing {};

/* name, arguments, most threads of a block */
#define XD_GPU_KERNELS(X)                \
  X(push, Site, kMoveThreads)            \
  X(push_short, Site, kMoveThreads)      \
  X(pull, Site, kMoveThreads)            \
  X(push_pattern, Pattern, kMoveThreads) \
  X(ping_pong, Site, kWordThreads)       \
  X(barriers, Site, kWordThreads)        \
  X(one_barrier, Site, kWordThreads)     \
  X(nothing, Nothing, kWordThreads)

#define XD_NAME(name, arguments, threads) name,
enum class Kernel { XD_GPU_KERNELS(XD_NAME) };
#undef XD_NAME

}  // namespace crossdock::tools::gpu
