// SPDX-License-Identifier: Apache-2.0
// What memcpy gives: each thread copies rows between buffers of its own that no cache holds.
#pragma once

#include <algorithm>
#include <cstring>

#include "machine/pages.hpp"

namespace crossdock::tools {

class RowCopy {
 public:
  /// `bytes` of source and as many of destination; touches both.
  explicit RowCopy(std::int64_t bytes, std::int64_t row_bytes = 4096)
      : row_bytes_(row_bytes), from_(bytes), to_(bytes) {
    std::memset(from_.data(), 1, from_.bytes());
    std::memset(to_.data(), 2, to_.bytes());
  }

  /// Copies about `bytes` in rows of `row_bytes`, going on where the call before ended. Returns the bytes copied.
  std::int64_t copy(std::int64_t bytes, std::int64_t row_bytes) {
    const std::int64_t rows = std::max<std::int64_t>(1, bytes / row_bytes),
                       all = static_cast<std::int64_t>(from_.bytes());
    for (std::int64_t i = 0; i < rows; ++i) {
      if (next_ + row_bytes > all) next_ = 0;
      std::memcpy(to_.data() + next_, from_.data() + next_, std::min(row_bytes, all));
      next_ += row_bytes;
    }
    return rows * std::min(row_bytes, all);
  }

  std::int64_t copy(std::int64_t bytes) { return copy(bytes, row_bytes_); }

 private:
  std::int64_t row_bytes_, next_ = 0;
  Pages from_, to_;
};

}  // namespace crossdock::tools
