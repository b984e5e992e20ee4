// SPDX-License-Identifier: Apache-2.0
// The time at which a wait on the host gives up; it may be never. It is a time of CLOCK_MONOTONIC, so that it has the
// same meaning in all processes of a host.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace crossdock::platform::system {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  /// `limit` from now; 0 or less: never.
  explicit Deadline(std::chrono::milliseconds limit)
      : never_(limit.count() <= 0), at_(never_ ? Clock::time_point{} : Clock::now() + limit) {}

  bool never() const { return never_; }
  bool passed() const { return !never_ && Clock::now() >= at_; }
  Clock::time_point at() const { return at_; }

  /// The deadline as one number for messages: ns of CLOCK_MONOTONIC, 0: never.
  std::uint64_t to_ns() const { return never_ ? 0 : static_cast<std::uint64_t>(at_.time_since_epoch().count()); }
  static Deadline from_ns(std::uint64_t ns) {
    Deadline d{std::chrono::milliseconds{0}};
    d.never_ = ns == 0;
    d.at_ = Clock::time_point{std::chrono::nanoseconds{static_cast<std::int64_t>(ns)}};
    return d;
  }

  Deadline earlier(const Deadline& other) const { return never_ || (!other.never_ && other.at_ < at_) ? other : *this; }
  Deadline plus(std::chrono::milliseconds more) const {
    Deadline d = *this;
    d.at_ += more;
    return d;
  }

  /// Time-out for poll(2), in ms: the time that is left, at most `most`.
  int poll_ms(int most = 1000) const {
    if (never_) return most;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, most));
  }

 private:
  bool never_;
  Clock::time_point at_;
};

}  // namespace crossdock::platform::system
