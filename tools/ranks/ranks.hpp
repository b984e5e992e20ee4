// SPDX-License-Identifier: Apache-2.0
// Runs one body per rank: as threads, or as forked processes that are watched over.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "crossdock/group.hpp"
#include "ranks/shared.hpp"

namespace crossdock::tools {

/// Where the ranks of one job become a group: threads in a team, processes under a name.
class Meeting {
 public:
  /// Processes meet under a name that no other job has.
  Meeting(int num_ranks, bool processes);
  Meeting(int num_ranks, std::string name) : num_ranks_(num_ranks), name_(std::move(name)) {}
  Group join(int rank, const GroupOptions& options) const {
    return team_ ? Group::join(*team_, rank, options) : Group::rendezvous(name_, rank, num_ranks_, options);
  }

 private:
  int num_ranks_;
  std::optional<ThreadTeam> team_;
  std::string name_;
};

/// Runs body(rank) in one thread per rank and waits for all. Rethrows the first failure, after which sync() throws Stopped.
class RankThreads {
 public:
  explicit RankThreads(int num_ranks) : num_ranks_(num_ranks) {}

  int num_ranks() const { return num_ranks_; }
  /// All threads meet here, and leave together.
  void sync() { barrier_.wait(num_ranks_, false); }

  void run(const std::function<void(int)>& body) {
    std::exception_ptr failure;
    std::mutex mutex;
    std::vector<std::jthread> threads;
    threads.reserve(num_ranks_);
    for (int rank = 0; rank < num_ranks_; ++rank)
      threads.emplace_back([&, rank] {
        try {
          body(rank);
        } catch (...) {
          const std::lock_guard lock(mutex);
          if (!failure) failure = std::current_exception();
          barrier_.stop();
        }
      });
    threads.clear();  // joins
    if (failure) std::rethrow_exception(failure);
  }

 private:
  const int num_ranks_;
  RankBarrier barrier_;
};

/// How a rank ended. `why` is empty if it ran to its end.
struct Ending {
  int rank = 0;
  std::string why;
};

struct Watch {
  std::function<void()> on_failure = [] {};  ///< called when a rank has ended badly, perhaps by several threads at once
  std::chrono::milliseconds patience{60000};  ///< processes that still run so long after a failure are killed

  /// Ranks that wait for one another give up after `deadline`, unless it is 0, and have some time to say so.
  void allow(std::chrono::milliseconds deadline) {
    if (deadline.count() > 0) patience = deadline + std::chrono::seconds(10);
  }
};

/// Runs body(rank) for all ranks. The body reports its own errors and returns whether it went well; what it cannot report
/// (an exception, a signal) ends up here. Fork before any thread was made.
std::vector<Ending> run_as_threads(int num_ranks, const std::function<bool(int)>& body, const Watch& watch);
std::vector<Ending> run_as_processes(int num_ranks, const std::function<bool(int)>& body, const Watch& watch);

}  // namespace crossdock::tools
