// SPDX-License-Identifier: Apache-2.0
// An all-gather between processes of one host that know only a common name. Rank 0 listens at a Unix-domain socket.
//
// The socket is in <runtime dir>/crossdock-<uid>/, whose mode 0700 is checked. Both ends check the user of the other.
// Files are removed once all ranks have connected, or on failure; those of a killed process are replaced. The error on
// every rank names the ranks that failed or are missing. The first failure is final: later calls throw it again.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "crossdock/group.hpp"
#include "platform/system/deadline.hpp"
#include "platform/system/local_socket.hpp"
#include "platform/system/unique_fd.hpp"

namespace crossdock::memory {

class Rendezvous {
 public:
  /// Collective. `deadline` 0: no limit. Errors: usage (name, rank, a rank that two processes use), config (processes
  /// with different numbers of ranks or versions of the protocol), peer_lost, system (the directory, sockets).
  static std::shared_ptr<Rendezvous> meet(const std::string& name, int rank, int num_ranks,
                                          std::chrono::milliseconds deadline);

  /// Writes `bytes` bytes of every rank to `all`, in rank order. Collective; one thread at a time. Errors: peer_lost,
  /// usage (ranks that pass different sizes).
  void all_gather(const void* mine, std::size_t bytes, void* all);

  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

 private:
  friend struct RendezvousMeeting;
  Rendezvous(const std::string& name, int rank, int num_ranks, std::chrono::milliseconds deadline)
      : name_(name), rank_(rank), num_ranks_(num_ranks), deadline_(deadline) {}

  void gather_as_root(const void* mine, std::size_t bytes, void* all);
  void gather_as_leaf(const void* mine, std::size_t bytes, void* all);
  void collect(std::size_t bytes, std::byte* all);
  [[noreturn]] void fail_all(StatusCode code, const std::string& message);  ///< rank 0: sends it to all, then fails
  [[noreturn]] void fail(StatusCode code, const std::string& message);

  const std::string name_;
  const int rank_, num_ranks_;
  const std::chrono::milliseconds deadline_;
  std::vector<platform::system::UniqueFd> links_;  // on rank 0: by rank; on others: [0] is the connection to rank 0
  std::uint64_t num_gathers_ = 0;
  StatusCode failure_code_ = StatusCode::ok;
  std::string failure_;
};

/// The all-gather of a rendezvous; it owns a reference to it.
AllGather all_gather_of(std::shared_ptr<Rendezvous> rendezvous);

/// The reason why `name` is not legal, or "".
std::string problem_of_name(const std::string& name);

}  // namespace crossdock::memory
