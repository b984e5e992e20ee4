// SPDX-License-Identifier: Apache-2.0
#include "ranks/shared.hpp"

#include <sched.h>

#include <chrono>
#include <thread>

namespace crossdock::tools {

void RankBarrier::wait(int num_ranks) {
  constexpr int kYields = 1000;  // then sleep: the others are at work, not on their way
  const int generation = generation_.load();
  if (arrived_.fetch_add(1) + 1 == num_ranks) {
    arrived_.store(0);
    generation_.fetch_add(1);
  }
  for (int tries = 0; generation_.load() == generation; ++tries) {
    if (stopped()) throw Stopped();
    if (tries < kYields)
      sched_yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  if (stopped()) throw Stopped();
}

}  // namespace crossdock::tools
