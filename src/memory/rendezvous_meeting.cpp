// SPDX-License-Identifier: Apache-2.0
// How processes find each other under a name: rank 0 opens the door and looks at everybody who enters, others knock.
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

/// One process on its way into a rendezvous.
struct RendezvousMeeting {
  Rendezvous& self;
  JoinDeadline patience;
  PrivateDirectory directory;
  NameLock lock;
  UniqueFd listener = {};

  /// A connection that rank 0 has accepted.
  struct Connection {
    UniqueFd fd;
    pid_t pid;
    Inbox hello{sizeof(Hello)};
    int rank = -1;  // once it is known and its own
  };
  std::list<Connection> guests = {};
  unsigned seen = 1;  // ranks that have said hello, bad or not
  int num_strangers = 0;
  StatusCode fault_code = StatusCode::ok;
  std::string fault = {};

  explicit RendezvousMeeting(Rendezvous& rendezvous)
      : self(rendezvous),
        patience{rendezvous.deadline_},
        directory(PrivateDirectory::open(PrivateDirectory::base_from_environment(), ::geteuid())),
        lock(directory, rendezvous.name_) {}

  std::string did_not_come(unsigned ranks) const {
    return ranks_in_words(ranks) + " did not come " + deadline_in_words(patience.limit) +
           "; every rank must be started with the same name, user and runtime directory (here " + directory.path() +
           ")";
  }
  std::string socket_path() const { return directory.path_to(socket_file_of(self.name_)); }

  // ---- rank 0 ----

  void receive_all_ranks() {
    while (!lock.try_take()) {
      // Somebody else is rank 0 under this name. It finds that out by our hello, and tells everybody.
      if (UniqueFd link = platform::system::connect_to(socket_path()))
        enter(std::move(link));  // does not return if heard
      pause_before_retry();
      if (patience.deadline.passed())
        self.fail(StatusCode::peer_lost, "another process holds the name and does not answer; use another name");
    }
    listener = platform::system::listen_at(socket_path(), 64);
    std::optional<Deadline> last_call;  // set by a fault
    while (seen != (1u << self.num_ranks_) - 1) {
      look_around(last_call ? *last_call : patience.deadline);
      if (!fault.empty() && !last_call) last_call = patience.deadline.earlier(Deadline(kLastCall));
      if ((last_call ? *last_call : patience.deadline).passed()) break;
    }
    if (fault.empty() && seen != (1u << self.num_ranks_) - 1) report_missing();
    if (!fault.empty()) turn_all_away();
    lock.release();
    for (Connection& guest : guests) {
      if (guest.rank < 0) continue;
      const Head welcome{MessageKind::welcome, StatusCode::ok, 0, 0};
      platform::system::send_all(guest.fd.get(), &welcome, sizeof(welcome),
                                 patience.deadline);  // a loss shows in the first gather
      self.links_[static_cast<std::size_t>(guest.rank)] = std::move(guest.fd);
    }
  }

  void look_around(const Deadline& until) {
    std::vector<pollfd> fds{{listener.get(), POLLIN, 0}};
    for (const Connection& guest : guests)
      fds.push_back({guest.fd.get(), static_cast<short>(guest.hello.complete() ? POLLRDHUP : POLLIN), 0});
    platform::system::poll_all(fds, until);
    std::size_t i = 1;
    for (auto guest = guests.begin(); guest != guests.end(); ++i) {
      const bool keep = fds[i].revents == 0 || listen_to(*guest);
      guest = keep ? std::next(guest) : guests.erase(guest);
    }
    while (UniqueFd fd = platform::system::accept_from(listener.get())) {
      const auto peer = platform::system::peer_of(fd.get());
      if (peer.uid == ::geteuid() && guests.size() < 256) {
        guests.push_back({std::move(fd), peer.pid});
      } else {
        ++num_strangers;
      }
    }
  }

  /// False: forget this guest.
  bool listen_to(Connection& guest) {
    if (guest.rank >= 0) {
      set_fault(StatusCode::peer_lost, ranks_in_words(1u << guest.rank) + " left before the group was complete");
      return false;
    }
    if (guest.hello.complete()) return false;  // a bad one that has left
    const Arrival arrival = guest.hello.receive_from(guest.fd.get());
    if (arrival != Arrival::complete) return arrival == Arrival::nothing_yet;
    const Hello hello = guest.hello.as<Hello>();
    if (std::memcmp(hello.magic, kRendezvousMagic, sizeof(hello.magic)) != 0) {
      ++num_strangers;
      return false;
    }
    check(guest, hello);
    return true;
  }

  void check(Connection& guest, const Hello& hello) {
    const std::string who = "rank " + std::to_string(hello.rank);
    const bool in_range = hello.rank >= 0 && hello.rank < self.num_ranks_;
    if (hello.version != kRendezvousVersion) {
      set_fault(StatusCode::config, "rank 0 speaks version " + std::to_string(kRendezvousVersion) +
                                        " of the protocol and " + who + " version " + std::to_string(hello.version) +
                                        "; use the same library in all processes");
    } else if (hello.num_ranks != self.num_ranks_ || !in_range) {
      set_fault(StatusCode::config, "rank 0 says there are " + std::to_string(self.num_ranks_) + " ranks and " + who +
                                        " says " + std::to_string(hello.num_ranks) + "; all must say the same");
    } else if ((seen >> hello.rank & 1) != 0) {
      set_fault(StatusCode::usage, "two processes are " + who + " (" + pids_of(hello.rank) + " and " +
                                       std::to_string(guest.pid) + "); give each process a rank of its own");
    } else {
      guest.rank = hello.rank;
      patience.share(hello.limit_ms, hello.deadline_ns);
    }
    if (in_range) seen |= 1u << hello.rank;
  }

  std::string pids_of(int rank) const {
    for (const Connection& guest : guests)
      if (guest.rank == rank) return "process " + std::to_string(guest.pid);
    return "process " + std::to_string(::getpid());
  }

  void set_fault(StatusCode code, const std::string& message) {
    if (!fault.empty()) return;
    fault_code = code;
    fault = message;
  }

  void report_missing() {
    set_fault(StatusCode::peer_lost,
              did_not_come(~seen & ((1u << self.num_ranks_) - 1)) +
                  (num_strangers == 0 ? "" : "; refused strangers: " + std::to_string(num_strangers)));
  }

  [[noreturn]] void turn_all_away() {
    lock.release();
    for (const Connection& guest : guests) tell_failure(guest.fd.get(), fault_code, fault);
    while (const UniqueFd late = platform::system::accept_from(listener.get()))
      tell_failure(late.get(), fault_code, fault);
    self.fail(fault_code, fault);
  }

  // ---- other ranks ----

  void go_to_rank_0() {
    for (;;) {
      if (UniqueFd link = platform::system::connect_to(socket_path())) {
        if (enter(std::move(link))) return;
        self.fail(StatusCode::peer_lost,
                  "rank 0 closed its door: it ended, was killed, or its group is complete without "
                  "this process; is rank " +
                      std::to_string(self.rank_) + " used twice?");
      }
      const int error = errno;
      if (error != ENOENT && error != ECONNREFUSED && error != EAGAIN)
        platform::system::throw_system_error(
            "connecting to rank 0 at " + directory.path() + "/" + socket_file_of(self.name_), error);
      if (patience.deadline.passed()) self.fail(StatusCode::peer_lost, did_not_come(1));
      pause_before_retry();
    }
  }

  /// Says hello and waits to be welcomed. False: the door was closed without a word.
  bool enter(UniqueFd link) {
    if (!platform::system::same_user(link.get())) {
      throw SystemError("rendezvous '" + self.name_ + "': the process that listens in " + directory.path() +
                        " runs as uid " + std::to_string(platform::system::peer_of(link.get()).uid) + ", this one as " +
                        std::to_string(::geteuid()) + "; all ranks must run as one user");
    }
    Hello hello{{},
                kRendezvousVersion,
                self.num_ranks_,
                self.rank_,
                static_cast<std::uint32_t>(patience.limit.count()),
                patience.deadline.to_ns()};
    std::memcpy(hello.magic, kRendezvousMagic, sizeof(hello.magic));
    platform::system::send_all(link.get(), &hello, sizeof(hello), patience.deadline);
    Head reply{};
    std::string message;
    const Arrival arrival = receive_reply(link.get(), reply, message, patience.deadline.plus(kGrace));
    if (arrival == Arrival::nothing_yet)
      self.fail(StatusCode::peer_lost, "rank 0 did not answer " + deadline_in_words(self.deadline_));
    if (arrival == Arrival::closed) return false;
    if (reply.kind == MessageKind::failure) self.fail(reply.code, message);
    self.links_[0] = std::move(link);
    return true;
  }

  void pause_before_retry() {
    std::this_thread::sleep_for(wait_);
    wait_ = std::min(wait_ * 2, std::chrono::milliseconds{20});
  }
  std::chrono::milliseconds wait_{1};
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
    meeting.receive_all_ranks();
  } else {
    meeting.go_to_rank_0();
  }
  return rendezvous;
}

}  // namespace crossdock::memory
