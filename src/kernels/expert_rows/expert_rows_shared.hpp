// SPDX-License-Identifier: Apache-2.0
// Shared memory of a block of expert_rows.
#pragma once

#include "kernels/common/args.hpp"

namespace crossdock::kernels {

inline constexpr int kRowChunk = 64;     // rows assigned at once: one bit each in a 64-bit word
inline constexpr int kLoadsAtOnce = 12;  // loads of counts that a thread has in flight

struct ExpertRowsShared {
  std::uint32_t before[kExpertGroup];    // [expert]: its (token, expert) pairs in rows before this chunk
  std::uint32_t needed[kExpertGroup];    // its pairs in all rows
  std::uint32_t taken[kExpertGroup];     // rows that it occupies, padding included
  std::int64_t first[kExpertGroup + 1];  // its first row in the expert buffer
  Bits named[kExpertGroup];              // bit i: row i of the chunk goes to this expert
  union {
    std::int32_t slots[kRowChunk * kMaxTopk];  // expert row of (row of the chunk, id), -1: none
    std::uint32_t rows_of[kMaxLatencyWords];   // expert_rows_latency, by expert: a bit for each row that names it
  };
  std::uint32_t dropped;  // pairs for which there is no room
};

}  // namespace crossdock::kernels
