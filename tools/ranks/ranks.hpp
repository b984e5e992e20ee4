// SPDX-License-Identifier: Apache-2.0
// Runs one body per rank, as threads or as forked processes, and watches over them.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace crossdock::tools {

/// How a rank ended. `why` is empty if it ran to its end.
struct Ending {
  int rank = 0;
  std::string why;
};

struct Watch {
  std::function<void()> tick = [] {};         ///< called about fifty times a second while ranks run
  std::function<void()> on_failure = [] {};   ///< called once, at the first rank that ends badly
  std::chrono::milliseconds patience{60000};  ///< processes that still run so long after a failure are killed
};

/// Runs body(rank) for all ranks. The body reports its own errors and returns whether it went well; what it cannot report
/// (an exception, a signal) ends up here. Fork before any thread was made.
std::vector<Ending> run_as_threads(int num_ranks, const std::function<bool(int)>& body, const Watch& watch);
std::vector<Ending> run_as_processes(int num_ranks, const std::function<bool(int)>& body, const Watch& watch);

}  // namespace crossdock::tools
