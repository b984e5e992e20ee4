// SPDX-License-Identifier: Apache-2.0
// Every rank listens at an abstract socket with a random name, connects to every other rank, and answers those that
// connect and send its secret. Linux queues connections before they are accepted. So connecting does not wait for the
// peer, and ranks cannot deadlock, whatever their order.
#include "memory/descriptors.hpp"

#include <cerrno>
#include <cstring>
#include <list>
#include <thread>
#include <utility>

#include "memory/bootstrap.hpp"
#include "platform/system/local_socket.hpp"
#include "platform/system/random_id.hpp"
#include "platform/system/system_failure.hpp"

namespace crossdock::memory {

using platform::system::Arrival;
using platform::system::Deadline;
using platform::system::Id128;
using platform::system::Inbox;
using platform::system::UniqueFd;

namespace {

/// Socket and secret of a rank. Only members of the group get it, through the all-gather.
struct Address {
  Id128 name;
  Id128 secret;
};

/// Request and reply of a connection; the descriptor comes with the reply. The secret proves that the sender is a
/// member of the group.
struct Handshake {
  Id128 secret;  // of the receiver
  std::int32_t rank;
  std::int32_t has_fd;
};

std::string socket_name_of(const Id128& name) { return std::string(1, '\0') + "crossdock-" + hex_of(name); }

/// Outcome of the exchange on one rank. All ranks gather it, so that all throw or none.
struct Verdict {
  std::uint32_t blamed;  // bits of ranks from which this one got no answer
  char message[252];     // empty: all is well
};

/// One call of exchange().
class Round {
 public:
  Round(int rank, int num_ranks, std::chrono::milliseconds deadline, int my_fd)
      : rank_(rank),
        num_ranks_(num_ranks),
        deadline_(deadline),
        limit_(deadline),
        my_fd_(my_fd),
        links_(num_ranks),
        result_(num_ranks) {
    for (int r = 0; r < num_ranks; ++r) replies_.emplace_back(sizeof(Handshake));
  }

  void listen(const AllGather& all_gather) {
    const Address mine{platform::system::random_id128(), platform::system::random_id128()};
    listener_ = platform::system::listen_at(socket_name_of(mine.name), 64);
    addresses_ = all_gather_value(all_gather, num_ranks_, mine);
    unanswered_ = unreceived_ = ((1u << num_ranks_) - 1) & ~(1u << rank_);
  }

  /// Sends this rank's descriptor to all others and receives theirs. A rank that fails is blamed; the exchange goes on
  /// with the others.
  void run() {
    limit_ = Deadline(deadline_);
    for (int r = 0; r < num_ranks_; ++r)
      if (r != rank_) connect(r);
    // Serves both directions at once, so that two ranks that wait for each other both proceed.
    while ((unanswered_ | unreceived_) != 0) {
      std::vector<pollfd> fds{{listener_.get(), POLLIN, 0}};
      for (int r = 0; r < num_ranks_; ++r)
        if (unreceived_ >> r & 1) fds.push_back({links_[r].get(), POLLIN, 0});
      for (const Caller& caller : callers_) fds.push_back({caller.fd.get(), POLLIN, 0});
      platform::system::poll_all(fds, limit_);
      for (int r = 0; r < num_ranks_; ++r)
        if (unreceived_ >> r & 1) receive_from(r);
      answer_callers();
      accept_callers();
      if (limit_.passed() && (unanswered_ | unreceived_) != 0)
        blame(unanswered_ | unreceived_, "did not answer " + deadline_in_words(deadline_));
    }
  }

  std::uint32_t blamed() const { return blamed_; }
  const std::string& message() const { return message_; }
  std::vector<UniqueFd> result() { return std::move(result_); }

 private:
  struct Caller {
    UniqueFd fd;
    Inbox handshake{sizeof(Handshake)};
  };

  /// Notes that `ranks` failed and stops waiting for them. exchange() throws, after all ranks have gathered verdicts.
  void blame(unsigned ranks, const std::string& what) {
    if (message_.empty()) message_ = ranks_in_words(ranks) + " " + what;
    blamed_ |= ranks;
    unanswered_ &= ~ranks;
    unreceived_ &= ~ranks;
  }

  void connect(int peer) {
    UniqueFd& link = links_[peer];
    while (!(link = platform::system::connect_to(socket_name_of(addresses_[peer].name)))) {
      const int error = errno;
      if (error == ECONNREFUSED)
        return blame(1u << peer, "cannot be reached: it has ended, or runs in another network namespace");
      if (error != EAGAIN) platform::system::throw_system_error("connecting to " + ranks_in_words(1u << peer), error);
      if (limit_.passed()) return blame(1u << peer, "does not take connections " + deadline_in_words(deadline_));
      std::this_thread::sleep_for(std::chrono::milliseconds{1});
    }
    if (!platform::system::same_user(link.get())) {
      return blame(1u << peer, "runs as uid " + std::to_string(platform::system::peer_of(link.get()).uid) +
                                   ", this rank as " + std::to_string(::geteuid()) +
                                   "; all ranks must run as one user");
    }
    const Handshake handshake{addresses_[peer].secret, rank_, 0};
    if (!platform::system::send_all(link.get(), &handshake, sizeof(handshake), limit_)) blame(1u << peer, "has ended");
  }

  void receive_from(int peer) {
    const Arrival arrival = replies_[peer].receive_from(links_[peer].get());
    if (arrival == Arrival::nothing_yet) return;
    const Handshake handshake = arrival == Arrival::complete ? replies_[peer].as<Handshake>() : Handshake{};
    if (handshake.secret != addresses_[rank_].secret || handshake.rank != peer)
      return blame(1u << peer, "closed its connection without handing its memory: it has ended or failed");
    if (handshake.has_fd != 0 && !replies_[peer].passed_fd)
      return blame(1u << peer, "handed a descriptor that this process has no room for; raise the limit of open files");
    if (handshake.has_fd != 0) result_[peer] = std::move(replies_[peer].passed_fd);
    links_[peer].reset();
    unreceived_ &= ~(1u << peer);
  }

  void answer_callers() {
    for (auto caller = callers_.begin(); caller != callers_.end();) {
      const Arrival arrival = caller->handshake.receive_from(caller->fd.get());
      if (arrival == Arrival::complete) answer(caller->fd.get(), caller->handshake.as<Handshake>());
      caller = arrival == Arrival::nothing_yet ? std::next(caller) : callers_.erase(caller);
    }
  }

  void answer(int link, const Handshake& handshake) {
    const bool member =
        handshake.secret == addresses_[rank_].secret && handshake.rank >= 0 && handshake.rank < num_ranks_;
    if (!member || (unanswered_ >> handshake.rank & 1) == 0) return;
    const Handshake reply{addresses_[handshake.rank].secret, rank_, my_fd_ >= 0 ? 1 : 0};
    if (!platform::system::send_with_fd(link, &reply, sizeof(reply), my_fd_, limit_))
      return blame(1u << handshake.rank, "has ended");
    unanswered_ &= ~(1u << handshake.rank);
  }

  void accept_callers() {
    constexpr std::size_t kMaxCallers = 64;  // other processes may connect and send nothing: then the oldest is closed
    while (UniqueFd fd = platform::system::accept_from(listener_.get())) {
      if (!platform::system::same_user(fd.get())) continue;
      if (callers_.size() >= kMaxCallers) callers_.pop_front();
      callers_.push_back({std::move(fd)});
    }
  }

  const int rank_, num_ranks_;
  const std::chrono::milliseconds deadline_;
  Deadline limit_;
  const int my_fd_;
  UniqueFd listener_;
  std::vector<Address> addresses_;
  std::list<Caller> callers_;
  // Bits of ranks: those that lack this rank's descriptor, those whose descriptor this rank lacks, those that failed.
  unsigned unanswered_ = 0, unreceived_ = 0, blamed_ = 0;
  std::string message_;
  std::vector<UniqueFd> links_;
  std::vector<Inbox> replies_;
  std::vector<UniqueFd> result_;
};

}  // namespace

DescriptorExchange::DescriptorExchange(AllGather all_gather, int rank, int num_ranks,
                                       std::chrono::milliseconds deadline)
    : all_gather_(std::move(all_gather)), rank_(rank), num_ranks_(num_ranks), deadline_(deadline) {}

std::vector<UniqueFd> DescriptorExchange::exchange(int my_fd) {
  Round round(rank_, num_ranks_, deadline_, my_fd);
  round.listen(all_gather_);
  std::string failure;
  try {
    round.run();
  } catch (const Error& error) {  // a system call of this rank failed
    failure = error.what();
  }
  // The socket stays open until all verdicts are gathered. If it closed now, a peer that still connects would blame
  // this rank, and not the one that failed.
  Verdict mine{round.blamed(), {}};
  std::strncpy(mine.message, (failure.empty() ? round.message() : failure).c_str(), sizeof(mine.message) - 1);
  const auto verdicts = all_gather_value(all_gather_, num_ranks_, mine);
  unsigned blamed = 0;
  for (const Verdict& verdict : verdicts) blamed |= verdict.blamed;
  for (int i = 0; i < num_ranks_; ++i) {
    const int r = (rank_ + i) % num_ranks_;  // this rank's message first
    if (verdicts[r].message[0] == '\0') continue;
    const std::string text = "exchange of memory handles: rank " + std::to_string(rank_) + " of " +
                             std::to_string(num_ranks_) + ": " +
                             (i == 0 ? "" : "rank " + std::to_string(r) + " reports: ") + verdicts[r].message;
    raise(blamed != 0 ? StatusCode::peer_lost : StatusCode::system, text);  // the same class on all ranks
  }
  return round.result();
}

}  // namespace crossdock::memory
