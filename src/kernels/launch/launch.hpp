// SPDX-License-Identifier: Apache-2.0
// Launches kernels from the host: one table of launch functions per machine (CPU, NVIDIA, AMD). The functions for
// combine are those of instances.def.
#pragma once

#include <iterator>

#include "kernels/launch/choose_kernel.hpp"
#include "platform/machine.hpp"

namespace crossdock::kernels {

inline constexpr std::size_t kNumDtypes = std::size(kDtypeNames), kNumCombineQuants = std::size(kCombineQuantNames);

template <class Args>
using Launch = void (*)(platform::Geometry, StreamHandle, const Args&);

struct LaunchTable {
  Launch<DispatchArgs> dispatch = nullptr;
  Launch<ExpertRowsArgs> expert_rows = nullptr;
  Launch<CombineArgs> combine[kNumDtypes][kNumCombineQuants][2] = {};  // [dtype][quant][by expert]
  /// How many blocks of `num_threads` threads can be resident together, for any of the kernels: the least over all of
  /// them.
  int (*max_resident_blocks)(int num_threads) = nullptr;
};

/// The table of a machine.
const LaunchTable& launches_of(BackendKind kind);

}  // namespace crossdock::kernels
