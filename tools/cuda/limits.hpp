// SPDX-License-Identifier: Apache-2.0
// What the links between GPUs can do, whatever library asks them: rates by method and number of blocks, latencies.
#pragma once

#include <vector>

#include "machine.hpp"

namespace crossdock::tools::cuda {

/// Methods by which bytes reach a peer.
enum class Method { push, pull, bulk, bulk_pull };

/// GB/s out of (pull: into) each device, all devices at once, to all others in turn, `blocks` blocks each.
double rate(const std::vector<int>& devices, Method method, int blocks);

/// All lines of `crossdock bench --limits` for ranks on these devices.
std::vector<Limit> measure_limits(const std::vector<int>& devices);

}  // namespace crossdock::tools::cuda
