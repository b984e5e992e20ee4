// SPDX-License-Identifier: Apache-2.0
// Unix-domain stream sockets between processes of one user: non-blocking, closed on exec, no SIGPIPE, a deadline on every
// wait. Functions return false (or an empty UniqueFd) where the other side is at fault, and throw SystemError where the
// system is.
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

/// One attempt. Empty with errno set if nobody listens there (now).
UniqueFd connect_to(const std::string& name);

/// The next waiting connection; empty if there is none.
UniqueFd accept_from(int listener);

/// The process at the other end.
struct PeerProcess {
  uid_t uid;
  pid_t pid;
};
PeerProcess peer_of(int fd);

/// True if the other end runs as the user that this process runs as.
bool same_user(int fd);

/// Waits until something happens on `fds` or the deadline passes; at most a second. poll(2) without its EINTR.
void poll_all(std::vector<pollfd>& fds, const Deadline& deadline);

/// Sends everything. False: the other side is gone, or the deadline passed.
bool send_all(int fd, const void* data, std::size_t bytes, const Deadline& deadline);

/// Sends everything, and `passed_fd` (if not negative) with it.
bool send_with_fd(int fd, const void* data, std::size_t bytes, int passed_fd, const Deadline& deadline);

/// What one look at a socket brought.
enum class Arrival { nothing_yet, complete, closed };

/// Collects a message of known size, bit by bit.
struct Inbox {
  std::vector<std::byte> bytes;
  std::size_t num_received = 0;
  UniqueFd passed_fd;  ///< if the message brought one

  explicit Inbox(std::size_t size = 0) : bytes(size) {}
  bool complete() const { return num_received == bytes.size(); }
  /// Takes what is there without waiting.
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
