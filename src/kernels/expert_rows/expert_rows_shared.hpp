// SPDX-License-Identifier: Apache-2.0
// Shared memory of a block of expert_rows.
#pragma once

#include "kernels/common/args.hpp"

namespace crossdock::kernels {

inline constexpr int kRowChunk = 64;     // rows placed at once: one bit each in a word
inline constexpr int kLoadsAtOnce = 16;  // loads that a thread has in flight while it adds up

struct ExpertRowsShared {
  std::uint32_t before[kExpertGroup];    // pairs of an expert in the rows before those at hand
  std::uint32_t needed[kExpertGroup];    // in all rows
  std::uint32_t taken[kExpertGroup];     // rows that the expert occupies, padding included
  std::int64_t first[kExpertGroup + 1];  // where it begins
  Bits named[kExpertGroup];              // bit i: row i of the chunk goes to this expert
  union {
    std::int32_t slots[kRowChunk * kMaxTopk];  // expert row of (row of the chunk, id), -1: none
    std::uint32_t rows_of[kMaxLatencyWords];   // of few rows, bits by expert: those that name it
  };
  std::uint32_t dropped;
};

}  // namespace crossdock::kernels
