// SPDX-License-Identifier: Apache-2.0
// Shows on stderr how far the ranks are, once a job has taken a second.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "ranks/shared.hpp"

/* The steps of the job, in order: name, what is shown */
#define XD_RUN_STEPS(X)                        \
  X(starting, "starting")                      \
  X(routing, "routing tokens")                 \
  X(joining, "joining the group")              \
  X(exchanging, "dispatch and combine")        \
  X(experts, "running experts")                \
  X(copying, "measuring memcpy")               \
  X(dense, "checking against the dense layer") \
  X(f64, "comparing with the f64 layer")       \
  X(finished, "finishing")

namespace crossdock::tools {

#define XD_STEP(name, ...) name,
enum class Step : int { XD_RUN_STEPS(XD_STEP) };
#undef XD_STEP

/// Where one rank is; lies in shared memory.
class RankProgress {
 public:
  void begin(Step step, std::int64_t total);
  void advance(std::int64_t count = 1) { done_.fetch_add(count, std::memory_order_relaxed); }
  Step step() const { return static_cast<Step>(step_.load(std::memory_order_relaxed)); }
  double share() const;  ///< of the step, 0 to 1

 private:
  std::atomic<int> step_{0};
  std::atomic<std::int64_t> done_{0}, total_{0};
};

enum class Show { never, always, on_terminal };

/// Draws the slowest rank's step. On a terminal one line that is rewritten, else a line for every step.
class ProgressLine {
 public:
  ProgressLine(Show show, const SharedArray<RankProgress>& ranks);
  ~ProgressLine();  ///< removes the line
  void draw();

 private:
  using Clock = std::chrono::steady_clock;
  const SharedArray<RankProgress>& ranks_;
  bool shown_, terminal_;
  Clock::time_point began_ = Clock::now(), next_;
  std::string last_;
};

}  // namespace crossdock::tools
