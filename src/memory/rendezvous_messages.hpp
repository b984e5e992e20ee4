// SPDX-License-Identifier: Apache-2.0
// Messages between the processes of a rendezvous. All run on one host, so byte order is no concern. Hello has the same
// layout in every version of the library, so that rank 0 can report a rank of another version.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "crossdock/types.hpp"
#include "platform/system/local_socket.hpp"

namespace crossdock::memory {

inline constexpr std::uint32_t kRendezvousVersion = 1;
inline constexpr char kRendezvousMagic[8] = {'x', 'd', '-', 'm', 'e', 'e', 't', '\n'};

/// Time that a rank waits past its deadline for the failure message of rank 0, which names the missing ranks.
inline constexpr std::chrono::milliseconds kReplyGrace{500};
/// Time that rank 0 still accepts connections after a failure, so that late ranks get its message too.
inline constexpr std::chrono::milliseconds kFailureGrace{1000};
/// Most time to send a failure to one rank.
inline constexpr std::chrono::milliseconds kSendFailureLimit{200};
inline constexpr std::uint64_t kMaxMessageBytes = 4096;

/// First message of every rank to rank 0.
struct Hello {
  char magic[8];
  std::uint32_t version;
  std::int32_t num_ranks;
  std::int32_t rank;
  std::uint32_t limit_ms;     // longest wait of this rank, for error texts
  std::uint64_t deadline_ns;  // end of that wait on CLOCK_MONOTONIC; 0: no limit
};
static_assert(sizeof(Hello) == 32);

enum class MessageKind : std::uint32_t { welcome, gather, gathered, failure };

/// Header of a message. `bytes` bytes follow: a contribution, all contributions, or the text of a failure.
struct Head {
  MessageKind kind;
  StatusCode code;       // of a failure, else ok
  std::uint64_t number;  // of the all-gather, from 1; 0 in other messages
  std::uint64_t bytes;
  std::uint64_t limit_ms = 0;  // of a contribution, as in Hello
  std::uint64_t deadline_ns = 0;
};

/// The deadline of rank 0's wait: the earliest deadline of all ranks that wait.
struct JoinDeadline {
  std::chrono::milliseconds limit;
  platform::system::Deadline deadline{limit};

  void include(std::uint64_t limit_ms, std::uint64_t deadline_ns) {
    const auto theirs = platform::system::Deadline::from_ns(deadline_ns);
    if (theirs.never() || (!deadline.never() && deadline.at() <= theirs.at())) return;
    limit = std::chrono::milliseconds{limit_ms};
    deadline = theirs;
  }
};

/// Sends a failure. Gives up without an error if the connection is broken or stays full for kSendFailureLimit.
void send_failure(int link, StatusCode code, const std::string& message);

/// Receives a head; if it is that of a failure, also its text into `message`.
platform::system::Arrival receive_reply(int link, Head& head, std::string& message,
                                        const platform::system::Deadline& deadline);

}  // namespace crossdock::memory
