// SPDX-License-Identifier: Apache-2.0
// Makes the connections of a rendezvous. Rank 0 listens and validates each Hello; the others connect with back-off.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <list>
#include <optional>
#include <thread>

#include "memory/bootstrap.hpp"
#include "memory/rendezvous.hpp"
#include "memory/rendezvous_files.hpp"
#include "memory/rendezvous_messages.hpp"
#include "platform/system/system_failure.hpp"

namespace crossdock::memory {

using platform::system::Arrival;
using platform::system::Deadline;
using platform::system::Inbox;
using platform::system::UniqueFd;

std::string problem_of_name(const std::string& name) {
  constexpr std::size_t kMaxBytes = 64;
  const auto allowed = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  if (name.empty() || name.size() > kMaxBytes)
    return "the name has " + std::to_string(name.size()) + " bytes; it must have 1 to " + std::to_string(kMaxBytes);
  if (!std::all_of(name.begin(), name.end(), allowed))
    return "the name '" + name + "' has a character outside [A-Za-z0-9._-]";
  return "";
}

/// State of one process while it joins a rendezvous.
struct RendezvousMeeting {
  Rendezvous& self;
  JoinDeadline join_deadline;
  PrivateDirectory directory;
  NameLock lock;
  UniqueFd listener = {};

  /// A connection that rank 0 has accepted.
  struct Connection {
    UniqueFd fd;
    pid_t pid;
    Inbox hello{sizeof(Hello)};
    int rank = -1;  // set once its hello was valid
  };
  std::list<Connection> connections = {};
  unsigned ranks_seen = 1;  // bits of ranks that sent a hello, valid or not
  int num_refused = 0;
  StatusCode fault_code = StatusCode::ok;
  std::string fault = {};

  explicit RendezvousMeeting(Rendezvous& rendezvous)
      : self(rendezvous),
        join_deadline{rendezvous.deadline_},
        directory(PrivateDirectory::open(PrivateDirectory::base_from_environment(), ::geteuid())),
        lock(directory, rendezvous.name_) {}

  std::string missing_ranks_text(unsigned ranks) const {
    return ranks_in_words(ranks) + " did not come " + deadline_in_words(join_deadline.limit) +
           "; every rank must be started with the same name, user and runtime directory (here " + directory.path() +
           ")";
  }
  std::string socket_path() const { return directory.path_to(socket_file_of(self.name_)); }

  // ---- rank 0 ----

  void accept_all_ranks() {
    while (!lock.try_take()) {
      // Another process is rank 0 under this name, which is an error of the caller. Our hello makes that process report
      // it to every rank, this one included.
      if (UniqueFd link = platform::system::connect_to(socket_path()))
        send_hello(std::move(link));  // throws that failure
      back_off();
      if (join_deadline.deadline.passed())
        self.fail(StatusCode::peer_lost, "another process holds the name and does not answer; use another name");
    }
    listener = platform::system::listen_at(socket_path(), 64);
    std::optional<Deadline> failure_deadline;  // after a fault: late ranks still connect, and get its text
    while (ranks_seen != (1u << self.num_ranks_) - 1) {
      poll_connections(failure_deadline ? *failure_deadline : join_deadline.deadline);
      if (!fault.empty() && !failure_deadline)
        failure_deadline = join_deadline.deadline.earlier(Deadline(kFailureGrace));
      if ((failure_deadline ? *failure_deadline : join_deadline.deadline).passed()) break;
    }
    if (fault.empty() && ranks_seen != (1u << self.num_ranks_) - 1) report_missing();
    if (!fault.empty()) fail_all_connections();
    lock.release();
    for (Connection& connection : connections) {
      if (connection.rank < 0) continue;
      const Head welcome{MessageKind::welcome, StatusCode::ok, 0, 0};
      platform::system::send_all(connection.fd.get(), &welcome, sizeof(welcome),
                                 join_deadline.deadline);  // result unused: the first gather finds a lost rank
      self.links_[static_cast<std::size_t>(connection.rank)] = std::move(connection.fd);
    }
  }

  void poll_connections(const Deadline& until) {
    std::vector<pollfd> fds{{listener.get(), POLLIN, 0}};
    for (const Connection& connection : connections)
      fds.push_back({connection.fd.get(), static_cast<short>(connection.hello.complete() ? POLLRDHUP : POLLIN), 0});
    platform::system::poll_all(fds, until);
    std::size_t i = 1;
    for (auto connection = connections.begin(); connection != connections.end(); ++i) {
      const bool keep = fds[i].revents == 0 || read_hello(*connection);
      connection = keep ? std::next(connection) : connections.erase(connection);
    }
    while (UniqueFd fd = platform::system::accept_from(listener.get())) {
      const auto peer = platform::system::peer_of(fd.get());
      if (peer.uid == ::geteuid() && connections.size() < 256) {
        connections.push_back({std::move(fd), peer.pid});
      } else {
        ++num_refused;
      }
    }
  }

  /// Reads what has arrived on a connection. Returns false if the connection is of no use, and is to be closed.
  bool read_hello(Connection& connection) {
    if (connection.rank >= 0) {
      set_fault(StatusCode::peer_lost, ranks_in_words(1u << connection.rank) + " left before the group was complete");
      return false;
    }
    if (connection.hello.complete()) return false;  // its hello was not valid, and it has closed
    const Arrival arrival = connection.hello.receive_from(connection.fd.get());
    if (arrival != Arrival::complete) return arrival == Arrival::nothing_yet;
    const Hello hello = connection.hello.as<Hello>();
    if (std::memcmp(hello.magic, kRendezvousMagic, sizeof(hello.magic)) != 0) {
      ++num_refused;
      return false;
    }
    validate_hello(connection, hello);
    return true;
  }

  /// Accepts the rank, or sets the fault that fails the group.
  void validate_hello(Connection& connection, const Hello& hello) {
    const std::string who = "rank " + std::to_string(hello.rank);
    const bool in_range = hello.rank >= 0 && hello.rank < self.num_ranks_;
    if (hello.version != kRendezvousVersion) {
      set_fault(StatusCode::config, "rank 0 speaks version " + std::to_string(kRendezvousVersion) +
                                        " of the protocol and " + who + " version " + std::to_string(hello.version) +
                                        "; use the same library in all processes");
    } else if (hello.num_ranks != self.num_ranks_ || !in_range) {
      set_fault(StatusCode::config, "rank 0 says there are " + std::to_string(self.num_ranks_) + " ranks and " + who +
                                        " says " + std::to_string(hello.num_ranks) + "; all must say the same");
    } else if ((ranks_seen >> hello.rank & 1) != 0) {
      set_fault(StatusCode::usage, "two processes are " + who + " (" + pids_of(hello.rank) + " and " +
                                       std::to_string(connection.pid) + "); give each process a rank of its own");
    } else {
      connection.rank = hello.rank;
      join_deadline.include(hello.limit_ms, hello.deadline_ns);
    }
    if (in_range) ranks_seen |= 1u << hello.rank;
  }

  std::string pids_of(int rank) const {
    for (const Connection& connection : connections)
      if (connection.rank == rank) return "process " + std::to_string(connection.pid);
    return "process " + std::to_string(::getpid());
  }

  /// Keeps the first fault only.
  void set_fault(StatusCode code, const std::string& message) {
    if (!fault.empty()) return;
    fault_code = code;
    fault = message;
  }

  void report_missing() {
    set_fault(StatusCode::peer_lost,
              missing_ranks_text(~ranks_seen & ((1u << self.num_ranks_) - 1)) +
                  (num_refused == 0 ? "" : "; refused strangers: " + std::to_string(num_refused)));
  }

  [[noreturn]] void fail_all_connections() {
    lock.release();
    for (const Connection& connection : connections) send_failure(connection.fd.get(), fault_code, fault);
    while (const UniqueFd late = platform::system::accept_from(listener.get()))
      send_failure(late.get(), fault_code, fault);
    self.fail(fault_code, fault);
  }

  // ---- other ranks ----

  void connect_to_rank_0() {
    for (;;) {
      if (UniqueFd link = platform::system::connect_to(socket_path())) {
        if (send_hello(std::move(link))) return;
        self.fail(StatusCode::peer_lost,
                  "rank 0 closed the connection: it ended, was killed, or its group is complete without "
                  "this process; is rank " +
                      std::to_string(self.rank_) + " used twice?");
      }
      const int error = errno;
      if (error != ENOENT && error != ECONNREFUSED && error != EAGAIN)
        platform::system::throw_system_error(
            "connecting to rank 0 at " + directory.path() + "/" + socket_file_of(self.name_), error);
      if (join_deadline.deadline.passed()) self.fail(StatusCode::peer_lost, missing_ranks_text(1));
      back_off();
    }
  }

  /// Sends the hello and waits for the welcome. False: rank 0 closed the connection without a message.
  bool send_hello(UniqueFd link) {
    if (!platform::system::same_user(link.get())) {
      throw SystemError("rendezvous '" + self.name_ + "': the process that listens in " + directory.path() +
                        " runs as uid " + std::to_string(platform::system::peer_of(link.get()).uid) + ", this one as " +
                        std::to_string(::geteuid()) + "; all ranks must run as one user");
    }
    Hello hello{{},
                kRendezvousVersion,
                self.num_ranks_,
                self.rank_,
                static_cast<std::uint32_t>(join_deadline.limit.count()),
                join_deadline.deadline.to_ns()};
    std::memcpy(hello.magic, kRendezvousMagic, sizeof(hello.magic));
    platform::system::send_all(link.get(), &hello, sizeof(hello), join_deadline.deadline);
    Head reply{};
    std::string message;
    const Arrival arrival = receive_reply(link.get(), reply, message, join_deadline.deadline.plus(kReplyGrace));
    if (arrival == Arrival::nothing_yet)
      self.fail(StatusCode::peer_lost, "rank 0 did not answer " + deadline_in_words(self.deadline_));
    if (arrival == Arrival::closed) return false;
    if (reply.kind == MessageKind::failure) self.fail(reply.code, message);
    self.links_[0] = std::move(link);
    return true;
  }

  void back_off() {
    std::this_thread::sleep_for(retry_delay_);
    retry_delay_ = std::min(retry_delay_ * 2, std::chrono::milliseconds{20});
  }
  std::chrono::milliseconds retry_delay_{1};
};

std::shared_ptr<Rendezvous> Rendezvous::meet(const std::string& name, int rank, int num_ranks,
                                             std::chrono::milliseconds deadline) {
  if (const std::string problem = problem_of_name(name); !problem.empty()) throw UsageError("rendezvous: " + problem);
  if (num_ranks < 1 || num_ranks > kMaxRanks) {
    throw UsageError("rendezvous '" + name + "': num_ranks is " + std::to_string(num_ranks) + "; a group has 1 to " +
                     std::to_string(kMaxRanks) + " ranks");
  }
  if (rank < 0 || rank >= num_ranks) {
    throw UsageError("rendezvous '" + name + "': rank is " + std::to_string(rank) + "; this group has ranks 0 to " +
                     std::to_string(num_ranks - 1));
  }
  std::shared_ptr<Rendezvous> rendezvous(new Rendezvous(name, rank, num_ranks, deadline));
  if (num_ranks == 1) return rendezvous;
  rendezvous->links_.resize(static_cast<std::size_t>(rank == 0 ? num_ranks : 1));
  RendezvousMeeting meeting(*rendezvous);
  if (rank == 0) {
    meeting.accept_all_ranks();
  } else {
    meeting.connect_to_rank_0();
  }
  return rendezvous;
}

}  // namespace crossdock::memory
