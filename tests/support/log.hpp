// SPDX-License-Identifier: Apache-2.0
// What went wrong on any rank, collected without a lock held by the ranks for long, told by the main thread.
#pragma once

#include <mutex>
#include <sstream>
#include <string>

namespace crossdock::testing {

class Log {
 public:
  /// Keeps the parts as one line. The first lines are enough to find the cause.
  template <class... Parts>
  void add(const Parts&... parts) {
    std::ostringstream line;
    (line << ... << parts);
    const std::lock_guard lock(mutex_);
    if (++num_lines_ <= kMaxLines) text_ += line.str() + "\n";
  }
  bool empty() const {
    const std::lock_guard lock(mutex_);
    return num_lines_ == 0;
  }
  std::string text() const {
    const std::lock_guard lock(mutex_);
    return num_lines_ <= kMaxLines ? text_ : text_ + "and " + std::to_string(num_lines_ - kMaxLines) + " more\n";
  }

 private:
  static constexpr int kMaxLines = 12;
  mutable std::mutex mutex_;
  std::string text_;
  int num_lines_ = 0;
};

}  // namespace crossdock::testing
