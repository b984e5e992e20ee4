// SPDX-License-Identifier: Apache-2.0
// What an eager call costs the thread that makes it, whatever the queue does meanwhile.
#pragma once

#include <algorithm>
#include <chrono>
#include <vector>

#include "jobs/bench_rank.hpp"

namespace crossdock::tools {

/// Median over calls into the queue of `options`, in µs. Few are under way at a time, so that none waits for room in the queue.
/// Collective. A dispatch includes letting go of the rows of the one before.
template <class Synchronize>
double host_us(BenchRank& rank, const Run& run, const CallOptions& options, Synchronize synchronize) {
  constexpr int kAtOnce = 4, kFewest = 100;
  std::vector<double> us;
  while (static_cast<int>(us.size()) < std::max(kFewest, kAtOnce * run.repeat)) {
    for (int i = 0; i < kAtOnce; ++i) {
      if (rank.fused() && run.op == Op::combine) rank.start_dispatch(options);
      const auto began = std::chrono::steady_clock::now();
      rank.call(run.op, options);
      us.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count());
    }
    synchronize();
  }
  std::nth_element(us.begin(), us.begin() + us.size() / 2, us.end());
  return us[us.size() / 2];
}

}  // namespace crossdock::tools
