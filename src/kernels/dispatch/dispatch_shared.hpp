// SPDX-License-Identifier: Apache-2.0
// Shared memory of a block of dispatch. A chunk is up to kChunk tokens that are routed at once.
#pragma once

#include "kernels/dispatch/expert_counter_device.hpp"

namespace crossdock::kernels {

struct DispatchShared {
  std::uint64_t matrix[kMaxRanks * (kMaxRanks + 1)];  // row counts of all ranks, see layout::CountMatrix
  Bits named_by[kChunk * kMaxRanks];                  // [token of the chunk][rank], bit j: id j names this rank
  Bits named[kMaxRanks];                              // bit i: token i of the chunk goes to this rank
  memory::Route routes[kChunk * kMaxRanks];           // [token of the chunk][n]: the n-th rank that its ids name
  std::int64_t next_row[kMaxRanks];                   // row of the chunk's first token at each rank
  std::uint32_t counts[memory::kShareCounts];         // of this block's tokens: rows for every rank, and bad ids
  std::uint32_t before[memory::kShareCounts];         // the same of the tokens of earlier blocks
  std::uint32_t pairs[kExpertsAtOnce];                // (token, expert) pairs by expert, see ExpertCounter
};

}  // namespace crossdock::kernels
