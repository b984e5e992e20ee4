// SPDX-License-Identifier: Apache-2.0
// The all-gather of a rendezvous: every rank sends to rank 0, which sends all contributions back.
// rendezvous_meeting.cpp makes the connections.
#include "memory/rendezvous.hpp"

#include <sys/socket.h>

#include <cstring>
#include <utility>

#include "memory/bootstrap.hpp"
#include "memory/rendezvous_messages.hpp"

namespace crossdock::memory {

using platform::system::Arrival;
using platform::system::Deadline;
using platform::system::Inbox;

namespace {

constexpr const char* kClosed =
    " closed its connection: it ended, was killed, or left; all ranks must be started again";

/// The part of one rank's contribution that rank 0 has received.
struct Contribution {
  Inbox head{sizeof(Head)}, body;
  bool complete = false;
};

}  // namespace

void send_failure(int link, StatusCode code, const std::string& message) {
  const Head head{MessageKind::failure, code, 0, message.size()};
  const Deadline soon(kSendFailureLimit);
  if (platform::system::send_all(link, &head, sizeof(head), soon))
    platform::system::send_all(link, message.data(), message.size(), soon);
}

Arrival receive_reply(int link, Head& head, std::string& message, const Deadline& deadline) {
  Inbox inbox(sizeof(Head));
  Arrival arrival = platform::system::receive_all(link, inbox, deadline);
  if (arrival != Arrival::complete) return arrival;
  head = inbox.as<Head>();
  if (head.kind != MessageKind::failure) return arrival;
  Inbox text(std::min<std::uint64_t>(head.bytes, kMaxMessageBytes));
  arrival = platform::system::receive_all(link, text, deadline);
  message.assign(reinterpret_cast<const char*>(text.bytes.data()), text.num_received);
  return arrival;
}

void Rendezvous::all_gather(const void* mine, std::size_t bytes, void* all) {
  if (!failure_.empty()) fail(failure_code_, failure_);
  ++num_gathers_;
  if (num_ranks_ == 1) {
    if (bytes > 0) std::memcpy(all, mine, bytes);
  } else if (rank_ == 0) {
    gather_as_root(mine, bytes, all);
  } else {
    gather_as_leaf(mine, bytes, all);
  }
}

/// Rank 0: receives all contributions, then sends them to all ranks.
void Rendezvous::gather_as_root(const void* mine, std::size_t bytes, void* all) {
  auto* to = static_cast<std::byte*>(all);
  if (bytes > 0) std::memcpy(to, mine, bytes);
  collect(bytes, to);
  const std::uint64_t all_bytes = bytes * static_cast<std::size_t>(num_ranks_);
  const Head head{MessageKind::gathered, StatusCode::ok, num_gathers_, all_bytes};
  const Deadline limit(deadline_);
  for (int r = 1; r < num_ranks_; ++r) {
    const int link = links_[static_cast<std::size_t>(r)].get();
    if (!platform::system::send_all(link, &head, sizeof(head), limit) ||
        !platform::system::send_all(link, all, all_bytes, limit))
      fail_all(StatusCode::peer_lost, ranks_in_words(1u << r) + kClosed);
  }
}

/// Rank 0: receives the contributions of all other ranks into `all`.
void Rendezvous::collect(std::size_t bytes, std::byte* all) {
  JoinDeadline join_deadline{deadline_};
  std::vector<Contribution> from(static_cast<std::size_t>(num_ranks_));
  unsigned missing = (1u << num_ranks_) - 2;
  while (missing != 0) {
    // A rank that has contributed is watched only for the end of its connection.
    std::vector<pollfd> fds;
    for (int r = 1; r < num_ranks_; ++r)
      fds.push_back({links_[r].get(), static_cast<short>(from[r].complete ? POLLRDHUP : POLLIN), 0});
    platform::system::poll_all(fds, join_deadline.deadline);
    for (int r = 1; r < num_ranks_; ++r) {
      if (fds[r - 1].revents == 0) continue;
      Contribution& one = from[r];
      Arrival arrival = one.complete ? Arrival::closed : one.head.receive_from(links_[r].get());
      if (arrival == Arrival::complete) {
        const Head head = one.head.as<Head>();
        if (head.number != num_gathers_ || head.bytes != bytes) {
          fail_all(StatusCode::usage, "rank 0 brings " + std::to_string(bytes) + " bytes and rank " +
                                          std::to_string(r) + " " + std::to_string(head.bytes) +
                                          "; all ranks must make the same calls in the same order");
        }
        join_deadline.include(head.limit_ms, head.deadline_ns);
        if (one.body.bytes.size() != bytes) one.body = Inbox(bytes);
        arrival = one.body.receive_from(links_[r].get());
      }
      if (arrival == Arrival::closed) fail_all(StatusCode::peer_lost, ranks_in_words(1u << r) + kClosed);
      if (arrival != Arrival::complete) continue;
      one.complete = true;
      missing &= ~(1u << r);
      if (bytes > 0) std::memcpy(all + bytes * static_cast<std::size_t>(r), one.body.bytes.data(), bytes);
    }
    if (missing != 0 && join_deadline.deadline.passed()) {
      fail_all(StatusCode::peer_lost, ranks_in_words(missing) + " did not come " +
                                          deadline_in_words(join_deadline.limit) +
                                          "; every rank must take part, or the deadline be longer");
    }
  }
}

/// Other ranks: sends the contribution to rank 0 and waits for the contributions of all ranks, or for a failure.
void Rendezvous::gather_as_leaf(const void* mine, std::size_t bytes, void* all) {
  const int link = links_[0].get();
  const Deadline limit(deadline_);
  const Head head{
      MessageKind::gather, StatusCode::ok, num_gathers_, bytes, static_cast<std::uint64_t>(deadline_.count()),
      limit.to_ns()};
  // A failed send is not an error yet: rank 0 has closed the connection, but may have sent a failure message before.
  if (platform::system::send_all(link, &head, sizeof(head), limit))
    platform::system::send_all(link, mine, bytes, limit);
  const Deadline for_reply = limit.plus(kReplyGrace);
  Head reply{};
  std::string message;
  Arrival arrival = receive_reply(link, reply, message, for_reply);
  if (arrival == Arrival::complete && reply.kind == MessageKind::failure) fail(reply.code, message);
  if (arrival == Arrival::complete) {
    const std::uint64_t expected = bytes * static_cast<std::size_t>(num_ranks_);
    if (reply.number != num_gathers_ || reply.bytes != expected) {
      fail(StatusCode::usage, "rank 0 gathers " + std::to_string(reply.bytes) + " bytes where " +
                                  std::to_string(expected) +
                                  " are expected; all ranks must make the same calls in the same order");
    }
    Inbox body(expected);
    arrival = platform::system::receive_all(link, body, for_reply);
    if (arrival == Arrival::complete && expected > 0) std::memcpy(all, body.bytes.data(), expected);
  }
  if (arrival == Arrival::closed) fail(StatusCode::peer_lost, std::string("rank 0") + kClosed);
  if (arrival == Arrival::nothing_yet) {
    fail(StatusCode::peer_lost, "rank 0 did not answer " + deadline_in_words(deadline_) +
                                    "; every rank must take part, or the deadline be longer");
  }
}

void Rendezvous::fail_all(StatusCode code, const std::string& message) {
  for (const auto& link : links_)
    if (link) send_failure(link.get(), code, message);
  fail(code, message);
}

void Rendezvous::fail(StatusCode code, const std::string& message) {
  links_.clear();
  failure_code_ = code;
  failure_ = message;
  raise(code, "rendezvous '" + name_ + "': rank " + std::to_string(rank_) + " of " + std::to_string(num_ranks_) + ": " +
                  failure_);
}

AllGather all_gather_of(std::shared_ptr<Rendezvous> rendezvous) {
  return [rendezvous = std::move(rendezvous)](const void* mine, std::size_t bytes, void* all) {
    rendezvous->all_gather(mine, bytes, all);
  };
}

}  // namespace crossdock::memory
