// SPDX-License-Identifier: Apache-2.0
// Who sends how much to whom.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace crossdock::tools {

/// Bytes, or rows, from each rank to each other one; none to itself.
class Traffic {
 public:
  explicit Traffic(int num_ranks) : num_ranks_(num_ranks), amounts_(static_cast<std::size_t>(num_ranks) * num_ranks) {}

  int num_ranks() const { return num_ranks_; }
  const std::vector<std::int64_t>& amounts() const { return amounts_; }  // by sender
  std::int64_t at(int from, int to) const { return amounts_[index(from, to)]; }
  void add(int from, int to, std::int64_t amount) {
    if (from != to) amounts_[index(from, to)] += amount;
  }

  /// What passes the busier direction of the busiest rank.
  std::int64_t busiest() const {
    std::int64_t busiest = 0;
    for (int r = 0; r < num_ranks_; ++r) {
      std::int64_t in = 0, out = 0;
      for (int s = 0; s < num_ranks_; ++s) in += at(s, r), out += at(r, s);
      busiest = std::max({busiest, in, out});
    }
    return busiest;
  }

  /// The same ranks, with of(amount) in place of each amount.
  template <class Of>
  Traffic with(Of of) const {
    Traffic other(num_ranks_);
    for (int from = 0; from < num_ranks_; ++from)
      for (int to = 0; to < num_ranks_; ++to) other.add(from, to, of(at(from, to)));
    return other;
  }
  /// Everything sent back.
  Traffic returned() const {
    Traffic other(num_ranks_);
    for (int from = 0; from < num_ranks_; ++from)
      for (int to = 0; to < num_ranks_; ++to) other.add(to, from, at(from, to));
    return other;
  }
  /// In proportion, so that about `amount` passes the busier direction of the busiest rank, which must have some.
  Traffic scaled(std::int64_t amount) const {
    return with([&, all = busiest()](std::int64_t part) { return (part * amount + all / 2) / all; });
  }

 private:
  std::size_t index(int from, int to) const { return static_cast<std::size_t>(from) * num_ranks_ + to; }

  int num_ranks_;
  std::vector<std::int64_t> amounts_;
};

}  // namespace crossdock::tools
