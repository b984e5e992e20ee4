// SPDX-License-Identifier: Apache-2.0
// What memcpy gives: each thread copies rows between buffers of its own that no cache holds.
#pragma once

#include <algorithm>
#include <cstring>

#include "pages.hpp"

namespace crossdock::tools {

class RowCopy {
 public:
  /// `bytes` of source and as many of destination; touches both.
  RowCopy(std::int64_t bytes, std::int64_t row_bytes)
      : row_bytes_(row_bytes),
        rows_(std::max<std::int64_t>(1, bytes / row_bytes)),
        from_(rows_ * row_bytes),
        to_(rows_ * row_bytes) {
    std::memset(from_.data(), 1, from_.bytes());
    std::memset(to_.data(), 2, to_.bytes());
  }

  /// Copies `bytes`, going on where the call before ended. Returns the bytes copied.
  std::int64_t copy(std::int64_t bytes) {
    const std::int64_t rows = std::max<std::int64_t>(1, bytes / row_bytes_);
    for (std::int64_t i = 0; i < rows; ++i) {
      std::memcpy(to_.data() + next_ * row_bytes_, from_.data() + next_ * row_bytes_, row_bytes_);
      next_ = next_ + 1 == rows_ ? 0 : next_ + 1;
    }
    return rows * row_bytes_;
  }

 private:
  std::int64_t row_bytes_, rows_, next_ = 0;
  Pages from_, to_;
};

}  // namespace crossdock::tools
