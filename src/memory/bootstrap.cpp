// SPDX-License-Identifier: Apache-2.0
// The all-gather of threads: a mutex, a condition variable and two buffers.
#include "memory/bootstrap.hpp"

#include <cstring>
#include <utility>

#include "platform/system/deadline.hpp"

namespace crossdock {

namespace detail {

ThreadTeamState::ThreadTeamState(int num_ranks) : num_ranks_(num_ranks) {
  if (num_ranks < 1 || num_ranks > kMaxRanks) {
    throw UsageError("ThreadTeam: num_ranks is " + std::to_string(num_ranks) + "; a group has 1 to " +
                     std::to_string(kMaxRanks) + " ranks");
  }
}

void ThreadTeamState::all_gather(int rank, const void* mine, std::size_t bytes, void* all,
                                 std::chrono::milliseconds deadline) {
  if (rank < 0 || rank >= num_ranks_) {
    throw UsageError("ThreadTeam: rank is " + std::to_string(rank) + "; this team has ranks 0 to " +
                     std::to_string(num_ranks_ - 1));
  }
  const platform::system::Deadline limit(deadline);
  std::unique_lock lock(mutex_);
  if (!failure_.empty()) throw_failure(rank);
  // Rounds alternate between two buffers. Round n + 2 writes to the buffer of round n. It begins after round n + 1 has
  // completed, so every rank has called for n + 1 and before that copied its result of round n.
  const unsigned long number = num_complete_;
  Round& round = rounds_[number % 2];
  if (round.arrived == 0) {
    round.bytes = bytes;
    round.first_rank = rank;
    round.data.resize(bytes * static_cast<std::size_t>(num_ranks_));
  }
  if ((round.arrived >> rank & 1) != 0) {
    fail(StatusCode::usage, "two threads use rank " + std::to_string(rank) + "; give each thread a rank of its own",
         rank);
  }
  if (round.bytes != bytes) {
    fail(StatusCode::usage,
         "rank " + std::to_string(round.first_rank) + " brings " + std::to_string(round.bytes) + " bytes and rank " +
             std::to_string(rank) + " " + std::to_string(bytes) +
             "; all ranks must make the same calls in the same order",
         rank);
  }
  if (bytes > 0) std::memcpy(round.data.data() + bytes * static_cast<std::size_t>(rank), mine, bytes);
  round.arrived |= 1u << rank;
  if (round.arrived == (1u << num_ranks_) - 1) {
    ++num_complete_;
    rounds_[num_complete_ % 2].arrived = 0;
    changed_.notify_all();
  }
  const auto ended = [&] { return num_complete_ != number || !failure_.empty(); };
  if (limit.never()) {
    changed_.wait(lock, ended);
  } else if (!changed_.wait_until(lock, limit.at(), ended)) {
    const unsigned missing = ~round.arrived & ((1u << num_ranks_) - 1);
    fail(StatusCode::peer_lost,
         memory::ranks_in_words(missing) + " did not come " + memory::deadline_in_words(deadline) + " (rank " +
             std::to_string(rank) +
             " waited); every rank must take part, or the deadline be longer; make a new ThreadTeam",
         rank);
  }
  if (num_complete_ == number) throw_failure(rank);  // another rank failed while this one waited
  if (!round.data.empty()) std::memcpy(all, round.data.data(), round.data.size());
}

void ThreadTeamState::fail(StatusCode code, const std::string& message, int rank) {
  failure_code_ = code;
  failure_ = message;
  changed_.notify_all();
  throw_failure(rank);
}

void ThreadTeamState::throw_failure(int rank) const {
  raise(failure_code_,
        "ThreadTeam: rank " + std::to_string(rank) + " of " + std::to_string(num_ranks_) + ": " + failure_);
}

}  // namespace detail

namespace memory {

AllGather all_gather_of(std::shared_ptr<detail::ThreadTeamState> team, int rank, std::chrono::milliseconds deadline) {
  return [team = std::move(team), rank, deadline](const void* mine, std::size_t bytes, void* all) {
    team->all_gather(rank, mine, bytes, all, deadline);
  };
}

std::string ranks_in_words(unsigned bits) {
  std::string text;
  int num = 0;
  for (int r = 0; bits >> r != 0; ++r) {
    if ((bits >> r & 1) == 0) continue;
    const bool last = bits >> r == 1;
    if (num++ > 0) text += last ? " and " : ", ";
    text += std::to_string(r);
  }
  return (num == 1 ? "rank " : "ranks ") + text;
}

std::string deadline_in_words(std::chrono::milliseconds deadline) {
  return deadline.count() <= 0 ? "" : "within " + std::to_string(deadline.count()) + " ms";
}

}  // namespace memory

}  // namespace crossdock
