// SPDX-License-Identifier: Apache-2.0
// Memory and a barrier that ranks share, whether they are threads or processes forked later.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <stdexcept>

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
  void wait(int num_ranks);  ///< throws Stopped if stop() was or is called
  void stop() { stopped_.store(true); }
  bool stopped() const { return stopped_.load(); }

 private:
  std::atomic<int> arrived_{0}, generation_{0};
  std::atomic<bool> stopped_{false};
};

}  // namespace crossdock::tools
