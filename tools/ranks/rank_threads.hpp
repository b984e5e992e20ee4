// SPDX-License-Identifier: Apache-2.0
// Ranks as threads: a set of threads that run the same body, and a barrier that a failing rank breaks.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace crossdock::tools {

/// Thrown by a barrier that another rank has broken; never the first failure.
struct BrokenBarrier : std::runtime_error {
  BrokenBarrier() : std::runtime_error("another rank failed") {}
};

/// All threads leave together, within a scheduling quantum.
class ThreadBarrier {
 public:
  explicit ThreadBarrier(int num_threads) : num_threads_(num_threads) {}

  void wait() {
    const unsigned round = round_.load();
    if (arrived_.fetch_add(1) + 1 == num_threads_) {
      arrived_.store(0);
      round_.store(round + 1);
      return;
    }
    while (round_.load() == round) {
      if (broken_.load()) throw BrokenBarrier();
      std::this_thread::yield();
    }
  }
  void break_it() { broken_.store(true); }

 private:
  const int num_threads_;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> round_{0};
  std::atomic<bool> broken_{false};
};

/// Runs body(rank) in one thread per rank and waits for all. Rethrows the first failure; the barrier is then broken.
class RankThreads {
 public:
  explicit RankThreads(int num_ranks) : num_ranks_(num_ranks), barrier_(num_ranks) {}

  int num_ranks() const { return num_ranks_; }
  ThreadBarrier& barrier() { return barrier_; }

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
          barrier_.break_it();
        }
      });
    threads.clear();  // joins
    if (failure) std::rethrow_exception(failure);
  }

 private:
  const int num_ranks_;
  ThreadBarrier barrier_;
};

}  // namespace crossdock::tools
