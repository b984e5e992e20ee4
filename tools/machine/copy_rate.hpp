// SPDX-License-Identifier: Apache-2.0
// What memcpy gives: each thread copies rows between buffers that no cache holds, its own or into another's.
#pragma once

#include <algorithm>
#include <cstring>

#include "machine/pages.hpp"

namespace crossdock::tools {

class RowCopy {
 public:
  /// `bytes` of source and as many of destination; touches both.
  explicit RowCopy(std::int64_t bytes) : from_(bytes), to_(bytes) {
    std::memset(from_.data(), 1, from_.bytes());
    std::memset(to_.data(), 2, to_.bytes());
  }

  /// Copies about `bytes` in rows of `row_bytes`, going on where the call before ended. Returns the bytes copied.
  std::int64_t copy(std::int64_t bytes, std::int64_t row_bytes) {
    const std::int64_t rows = std::max<std::int64_t>(1, bytes / row_bytes),
                       row = std::min(row_bytes, static_cast<std::int64_t>(from_.bytes()));
    copy_to(*this, 0, 1, rows, row);
    return rows * row;
  }

  /// Copies rows into part `part` of `parts` of the destination of `other`, to which no other thread writes.
  void copy_to(RowCopy& other, int part, int parts, std::int64_t rows, std::int64_t row_bytes) {
    const std::int64_t size = static_cast<std::int64_t>(from_.bytes()) / parts;
    for (std::int64_t i = 0; i < rows; ++i) {
      if (next_ + row_bytes > size) next_ = 0;
      std::memcpy(other.to_.data() + part * size + next_, from_.data() + part * size + next_,
                  static_cast<std::size_t>(row_bytes));
      next_ += row_bytes;
    }
  }

 private:
  std::int64_t next_ = 0;
  Pages from_, to_;
};

}  // namespace crossdock::tools
