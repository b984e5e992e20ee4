// SPDX-License-Identifier: Apache-2.0
// Unix-domain stream sockets between processes of one user: non-blocking, closed on exec, no SIGPIPE, a deadline on
// every wait. Functions return false, or an empty UniqueFd, if the other end fails, and throw SystemError if the system
// does.
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "platform/system/deadline.hpp"
#include "platform/system/unique_fd.hpp"

namespace crossdock::platform::system {

/// Listens at a path, or at an abstract name if `name` starts with a null byte.
UniqueFd listen_at(const std::string& name, int backlog);

/// Tries once to connect. Empty, with errno set, if that fails, for example because no process listens there.
UniqueFd connect_to(const std::string& name);

/// The next waiting connection; empty if there is none.
UniqueFd accept_from(int listener);

/// The process at the other end.
struct PeerProcess {
  uid_t uid;
  pid_t pid;
};
PeerProcess peer_of(int fd);

/// Whether the other end runs as the same user as this process.
bool same_user(int fd);

/// Waits by poll(2) for an event on `fds`, until the deadline, but at most one second: call it in a loop. EINTR counts
/// as no event.
void poll_all(std::vector<pollfd>& fds, const Deadline& deadline);

/// Sends all bytes. False: the other end has closed, or the deadline passed.
bool send_all(int fd, const void* data, std::size_t bytes, const Deadline& deadline);

/// Sends all bytes and, unless it is negative, `passed_fd`. Returns as send_all.
bool send_with_fd(int fd, const void* data, std::size_t bytes, int passed_fd, const Deadline& deadline);

/// Result of a non-blocking receive.
enum class Arrival { nothing_yet, complete, closed };

/// Collects a message of known size from several receives.
struct Inbox {
  std::vector<std::byte> bytes;
  std::size_t num_received = 0;
  UniqueFd passed_fd;  ///< if the message brought one

  explicit Inbox(std::size_t size = 0) : bytes(size) {}
  bool complete() const { return num_received == bytes.size(); }
  /// Receives the bytes that have arrived. Does not wait.
  Arrival receive_from(int fd);
  template <class T>
  T as() const {
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
};

/// Waits for a whole message. nothing_yet: the deadline passed.
Arrival receive_all(int fd, Inbox& inbox, const Deadline& deadline);

}  // namespace crossdock::platform::system
