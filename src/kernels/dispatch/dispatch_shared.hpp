// SPDX-License-Identifier: Apache-2.0
// What the threads of a block of dispatch share.
#pragma once

#include "kernels/dispatch/expert_counter_device.hpp"

namespace crossdock::kernels {

struct DispatchShared {
  std::uint64_t matrix[kMaxRanks * (kMaxRanks + 1)];
  Bits named_by[kChunk * kMaxRanks];  // [token of the chunk][rank], bit j: id j names this rank
  Bits named[kMaxRanks];              // bit i: token i of the chunk goes to this rank
  memory::Route routes[kChunk * kMaxRanks];
  std::int64_t next_row[kMaxRanks];            // row of the chunk's first token at each rank
  std::uint32_t counts[memory::kShareCounts];  // rows for every rank and bad ids, of this block's share
  std::uint32_t before[memory::kShareCounts];  // the same of the blocks before it
  std::uint32_t pairs[kExpertsAtOnce];
};

}  // namespace crossdock::kernels
