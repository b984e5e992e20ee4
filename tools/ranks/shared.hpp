// SPDX-License-Identifier: Apache-2.0
// Memory and a barrier that ranks share, whether they are threads or processes forked later.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <span>
#include <stdexcept>
#include <thread>

#include "machine/pages.hpp"

namespace crossdock::tools {

template <class T>
class SharedArray {
 public:
  explicit SharedArray(std::size_t count) : pages_(count * sizeof(T), true), count_(count) {
    std::uninitialized_value_construct_n(pages_.as<T>(), count);
  }
  std::span<T> all() { return {pages_.as<T>(), count_}; }
  std::span<const T> all() const { return {pages_.as<T>(), count_}; }
  T& operator[](std::size_t i) { return pages_.as<T>()[i]; }
  const T& operator[](std::size_t i) const { return pages_.as<T>()[i]; }

 private:
  Pages pages_;
  std::size_t count_;
};

/// Another rank failed, so this one stops; its own failure is no news.
struct Stopped : std::runtime_error {
  Stopped() : std::runtime_error("stopped, because another rank failed") {}
};

/// Where ranks wait for each other outside the library.
class RankBarrier {
 public:
  /// Throws Stopped if stop() was or is called. Who waits long sleeps in between, so that the others have the processors, and
  /// may leave 100 µs later than they do; without `may_sleep` all leave within a scheduling quantum.
  void wait(int num_ranks, bool may_sleep = true) {
    constexpr int kYields = 1000;
    const int generation = generation_.load();
    if (arrived_.fetch_add(1) + 1 == num_ranks) {
      arrived_.store(0);
      generation_.fetch_add(1);
    }
    for (int tries = 0; generation_.load() == generation; ++tries) {
      if (stopped()) throw Stopped();
      if (may_sleep && tries >= kYields)
        std::this_thread::sleep_for(std::chrono::microseconds(100));
      else
        std::this_thread::yield();
    }
    if (stopped()) throw Stopped();
  }
  void stop() { stopped_.store(true); }
  bool stopped() const { return stopped_.load(); }

 private:
  std::atomic<int> arrived_{0}, generation_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace crossdock::tools
