// SPDX-License-Identifier: Apache-2.0
// What processes of a rendezvous say to each other. Same host, so the same byte order; the layout of Hello never changes.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "crossdock/types.hpp"
#include "platform/system/local_socket.hpp"

namespace crossdock::memory {

inline constexpr std::uint32_t kRendezvousVersion = 1;
inline constexpr char kRendezvousMagic[8] = {'x', 'd', '-', 'm', 'e', 'e', 't', '\n'};

/// After its deadline a rank listens this much longer for rank 0's verdict, which knows who is missing.
inline constexpr std::chrono::milliseconds kGrace{500};
/// How long rank 0 waits for the others to come and hear that the group has failed.
inline constexpr std::chrono::milliseconds kLastCall{1000};
/// Most time spent on telling one rank.
inline constexpr std::chrono::milliseconds kTellLimit{200};
inline constexpr std::uint64_t kMaxMessageBytes = 4096;

/// First words of every rank to rank 0.
struct Hello {
  char magic[8];
  std::uint32_t version;
  std::int32_t num_ranks;
  std::int32_t rank;
  std::uint32_t limit_ms;     // how long this rank waits, for texts
  std::uint64_t deadline_ns;  // and until when, CLOCK_MONOTONIC; 0 = no limit
};
static_assert(sizeof(Hello) == 32);

enum class MessageKind : std::uint32_t { welcome, gather, gathered, failure };

/// Precedes `bytes` bytes: a contribution, all contributions, or the message of a failure.
struct Head {
  MessageKind kind;
  StatusCode code;  // of a failure
  std::uint64_t number;
  std::uint64_t bytes;
  std::uint64_t limit_ms = 0;  // of a contribution, as in Hello
  std::uint64_t deadline_ns = 0;
};

/// Until when rank 0 waits: as long as the least patient of all ranks that wait.
struct JoinDeadline {
  std::chrono::milliseconds limit;
  platform::system::Deadline deadline{limit};

  void share(std::uint64_t limit_ms, std::uint64_t deadline_ns) {
    const auto theirs = platform::system::Deadline::from_ns(deadline_ns);
    if (theirs.never() || (!deadline.never() && deadline.at() <= theirs.at())) return;
    limit = std::chrono::milliseconds{limit_ms};
    deadline = theirs;
  }
};

/// Sends a failure, as well as the link still allows.
void tell_failure(int link, StatusCode code, const std::string& message);

/// Receives a head, and the message if it announces a failure.
platform::system::Arrival receive_reply(int link, Head& head, std::string& message,
                                        const platform::system::Deadline& deadline);

}  // namespace crossdock::memory
