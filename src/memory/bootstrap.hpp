// SPDX-License-Identifier: Apache-2.0
// Exchange of a few bytes between ranks while a group forms: the all-gather of threads, and helpers for any all-gather.
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

/// State that the threads of a ThreadTeam share. After a failure some ranks have ended a round and others have not, so
/// the first failure is final: all later calls throw its message.
class ThreadTeamState {
 public:
  explicit ThreadTeamState(int num_ranks);  ///< UsageError unless 1 to kMaxRanks
  int num_ranks() const { return num_ranks_; }

  /// Writes `bytes` bytes of every rank to `all`, in rank order. Collective. Errors, on every member that waits or
  /// calls later: peer_lost (names the ranks that did not call within `deadline`; 0: no limit), usage (a rank out of
  /// range or used by two threads, different sizes).
  void all_gather(int rank, const void* mine, std::size_t bytes, void* all, std::chrono::milliseconds deadline);

 private:
  /// One all-gather under way.
  struct Round {
    std::vector<std::byte> data;  // num_ranks * bytes, in rank order
    std::size_t bytes = 0;
    unsigned arrived = 0;  // one bit per rank
    int first_rank = -1;   // the first to arrive, whose number of bytes the others must have; for error texts
  };
  [[noreturn]] void fail(StatusCode code, const std::string& message, int rank);
  [[noreturn]] void throw_failure(int rank) const;

  const int num_ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  // Used in turn: a round may begin while a slow rank still copies the result of the round before.
  Round rounds_[2];
  unsigned long num_complete_ = 0;
  StatusCode failure_code_ = StatusCode::ok;
  std::string failure_;
};

}  // namespace detail

namespace memory {

/// The all-gather of `rank` among the threads of `team`. It owns a reference to the team's state.
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

/// The ranks whose bit is set, as "rank 2" or "ranks 0, 2 and 3".
std::string ranks_in_words(unsigned bits);

/// "within 30000 ms", or "" without a limit.
std::string deadline_in_words(std::chrono::milliseconds deadline);

}  // namespace memory

}  // namespace crossdock
