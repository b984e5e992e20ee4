// SPDX-License-Identifier: Apache-2.0
// How ranks exchange a few bytes while a group forms: the meeting point of threads, and helpers over any all-gather.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "crossdock/group.hpp"

namespace crossdock {

namespace detail {

/// What the threads of a ThreadTeam share. The first failure ends the team for all: later calls throw the same message, so that
/// no two members can be in different rounds.
class ThreadTeamState {
 public:
  explicit ThreadTeamState(int num_ranks);  ///< UsageError unless 1 to kMaxRanks
  int num_ranks() const { return num_ranks_; }

  /// Collective. Errors, on every member that waits or comes later: peer_lost (names the ranks that did not come within
  /// `deadline`, 0 = no limit), usage (a rank out of range or used by two threads, sizes that differ).
  void all_gather(int rank, const void* mine, std::size_t bytes, void* all, std::chrono::milliseconds deadline);

 private:
  struct Round {
    std::vector<std::byte> data;
    std::size_t bytes = 0;
    unsigned arrived = 0;  // one bit per rank
    int first_rank = -1;
  };
  [[noreturn]] void fail(StatusCode code, const std::string& message, int rank);
  [[noreturn]] void throw_failure(int rank) const;

  const int num_ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Two rounds in turn: the next one may begin while a slow member still copies from this one.
  Round rounds_[2];
  unsigned long num_complete_ = 0;
  StatusCode failure_code_ = StatusCode::ok;
  std::string failure_;
};

}  // namespace detail

namespace memory {

/// The all-gather of `rank` among the threads of `team`; keeps the team's state alive.
AllGather all_gather_of(std::shared_ptr<crossdock::detail::ThreadTeamState> team, int rank,
                        std::chrono::milliseconds deadline);

/// Every rank's value, in rank order. Collective.
template <class T>
std::vector<T> all_gather_value(const AllGather& all_gather, int num_ranks, const T& mine) {
  static_assert(std::is_trivially_copyable_v<T>, "the value crosses processes as bytes");
  std::vector<T> all(static_cast<std::size_t>(num_ranks), mine);
  all_gather(&mine, sizeof(T), all.data());
  return all;
}

/// "rank 2" or "ranks 0, 2 and 3": the ranks whose bit is set.
std::string ranks_in_words(unsigned bits);

/// "within 30000 ms", or "" without a limit.
std::string deadline_in_words(std::chrono::milliseconds deadline);

}  // namespace memory

}  // namespace crossdock
