// SPDX-License-Identifier: Apache-2.0
// The system calls with their corner cases: EINTR, short transfers, descriptors that a peer sends and nobody expects.
#include "platform/system/local_socket.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "platform/system/system_failure.hpp"

namespace crossdock::platform::system {

namespace {

struct Address {
  sockaddr_un data{};
  socklen_t bytes = 0;
};

Address address_of(const std::string& name) {
  Address address;
  address.data.sun_family = AF_UNIX;
  if (name.size() >= sizeof(address.data.sun_path)) {
    throw SystemError("socket path '" + name + "' has " + std::to_string(name.size()) + " bytes; the system allows " +
                      std::to_string(sizeof(address.data.sun_path) - 1) + ", choose a shorter directory");
  }
  std::memcpy(address.data.sun_path, name.data(), name.size());
  const bool is_path = !name.empty() && name[0] != '\0';
  address.bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size() + (is_path ? 1 : 0));
  return address;
}

UniqueFd make_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw_system_error("socket", errno);
  return fd;
}

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

/// Errors that mean that the other end has closed.
bool peer_gone(int error) { return error == EPIPE || error == ECONNRESET || error == ENOTCONN; }

}  // namespace

UniqueFd listen_at(const std::string& name, int backlog) {
  UniqueFd fd = make_socket();
  const Address address = address_of(name);
  ::fchmod(fd.get(), S_IRUSR | S_IWUSR);  // the socket file gets this mode
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.data), address.bytes) != 0)
    throw_system_error("bind of a socket", errno);
  if (::listen(fd.get(), backlog) != 0) throw_system_error("listen on a socket", errno);
  return fd;
}

UniqueFd connect_to(const std::string& name) {
  UniqueFd fd = make_socket();
  const Address address = address_of(name);
  int result;
  do {
    result = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.data), address.bytes);
  } while (result != 0 && errno == EINTR);
  if (result != 0) {
    const int error = errno;
    fd.reset();
    errno = error;
  }
  return fd;
}

UniqueFd accept_from(int listener) {
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) return UniqueFd(fd);
    if (would_block(errno)) return UniqueFd();
    if (errno != EINTR && errno != ECONNABORTED) throw_system_error("accept on a socket", errno);
  }
}

PeerProcess peer_of(int fd) {
  ucred credentials{};
  socklen_t bytes = sizeof(credentials);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) throw_system_error("SO_PEERCRED", errno);
  return {credentials.uid, credentials.pid};
}

bool same_user(int fd) { return peer_of(fd).uid == ::geteuid(); }

void poll_all(std::vector<pollfd>& fds, const Deadline& deadline) {
  for (pollfd& entry : fds) entry.revents = 0;
  if (::poll(fds.data(), fds.size(), deadline.poll_ms()) < 0) {
    if (errno != EINTR) throw_system_error("poll", errno);
    for (pollfd& entry : fds) entry.revents = 0;
  }
}

bool send_all(int fd, const void* data, std::size_t bytes, const Deadline& deadline) {
  return send_with_fd(fd, data, bytes, -1, deadline);
}

bool send_with_fd(int fd, const void* data, std::size_t bytes, int passed_fd, const Deadline& deadline) {
  const auto* from = static_cast<const std::byte*>(data);
  std::size_t sent = 0;
  while (sent < bytes) {
    iovec part{const_cast<std::byte*>(from) + sent, bytes - sent};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (passed_fd >= 0 && sent == 0) {  // travels with the first byte
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      cmsghdr* head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(head), &passed_fd, sizeof(int));
    }
    const ssize_t n = ::sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      sent += static_cast<std::size_t>(n);
    } else if (would_block(errno)) {
      if (deadline.passed()) return false;
      std::vector<pollfd> wait{{fd, POLLOUT, 0}};
      poll_all(wait, deadline);
    } else if (peer_gone(errno)) {
      return false;
    } else if (errno != EINTR) {
      throw_system_error("sendmsg on a socket", errno);
    }
  }
  return true;
}

Arrival Inbox::receive_from(int fd) {
  while (!complete()) {
    iovec part{bytes.data() + num_received, bytes.size() - num_received};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    const ssize_t n = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && would_block(errno)) return Arrival::nothing_yet;
    if (n == 0 || (n < 0 && peer_gone(errno))) return Arrival::closed;
    if (n < 0) throw_system_error("recvmsg on a socket", errno);
    num_received += static_cast<std::size_t>(n);
    for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
      if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t num_fds = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < num_fds; ++i) {  // keeps the last, closes any other
        int received = -1;
        std::memcpy(&received, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
        passed_fd = UniqueFd(received);
      }
    }
  }
  return Arrival::complete;
}

Arrival receive_all(int fd, Inbox& inbox, const Deadline& deadline) {
  for (;;) {
    const Arrival arrival = inbox.receive_from(fd);
    if (arrival != Arrival::nothing_yet || deadline.passed()) return arrival;
    std::vector<pollfd> wait{{fd, POLLIN, 0}};
    poll_all(wait, deadline);
  }
}

}  // namespace crossdock::platform::system
