// SPDX-License-Identifier: Apache-2.0
// How long a fuzzer runs and from which seed: both printed, both to be set from outside.
#pragma once

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace crossdock::testing {

/// CROSSDOCK_TEST_SECONDS sets the time of each fuzzer, CROSSDOCK_TEST_SEED where it starts.
class FuzzRun {
 public:
  explicit FuzzRun(double seconds = 8) {
    if (const char* set = std::getenv("CROSSDOCK_TEST_SECONDS")) seconds = std::atof(set);
    const char* set = std::getenv("CROSSDOCK_TEST_SEED");
    seed_ = set ? std::strtoull(set, nullptr, 10) : std::random_device{}() % 1'000'000'000;
    until_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(static_cast<int>(seconds * 1000));
    std::printf("CROSSDOCK_TEST_SEED=%llu, for %g seconds\n", static_cast<unsigned long long>(seed_), seconds);
  }
  ~FuzzRun() { std::printf("%llu cases\n", static_cast<unsigned long long>(num_)); }
  bool more() const { return std::chrono::steady_clock::now() < until_; }
  std::uint64_t next_seed() { return seed_ + num_++; }

 private:
  std::uint64_t seed_, num_ = 0;
  std::chrono::steady_clock::time_point until_;
};

/// Draws for one case.
class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}
  int below(std::int64_t n) { return static_cast<int>(random_() % static_cast<std::uint64_t>(n)); }
  bool one_in(int n) { return below(n) == 0; }
  template <class T, std::size_t kCount>
  T of(const T (&values)[kCount]) {
    return values[below(kCount)];
  }
  std::uint64_t word() { return random_(); }

 private:
  std::mt19937_64 random_;
};

}  // namespace crossdock::testing
