// SPDX-License-Identifier: Apache-2.0
// Processes of one host that share only a name meet at a Unix-domain socket of rank 0 and gather bytes through it.
//
// The socket lives in <runtime dir>/crossdock-<uid>/, mode 0700, checked; both ends check the user of the other. Files
// are removed once all ranks are there, or on failure; those of a killed process are replaced. A rank that fails, or is
// missed, is named on every rank. The first failure is final: later calls repeat it.
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
  /// Collective. `deadline` 0 = no limit. Errors: usage (name, rank, a rank that two processes use), config (processes
  /// that disagree on the number of ranks or on the protocol), peer_lost, system (the directory, sockets).
  static std::shared_ptr<Rendezvous> meet(const std::string& name, int rank, int num_ranks,
                                          std::chrono::milliseconds deadline);

  /// Collective. Not for two threads at once. Errors: peer_lost, usage (sizes that differ).
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
  [[noreturn]] void fail_all(StatusCode code, const std::string& message);  ///< rank 0: tells everybody first
  [[noreturn]] void fail(StatusCode code, const std::string& message);

  const std::string name_;
  const int rank_, num_ranks_;
  const std::chrono::milliseconds deadline_;
  std::vector<platform::system::UniqueFd> links_;  // rank 0: by rank; others: [0] leads to rank 0
  std::uint64_t num_gathers_ = 0;
  StatusCode failure_code_ = StatusCode::ok;
  std::string failure_;
};

/// The all-gather of a rendezvous, which it keeps alive.
AllGather all_gather_of(std::shared_ptr<Rendezvous> rendezvous);

/// "" or why `name` cannot name a rendezvous.
std::string problem_of_name(const std::string& name);

}  // namespace crossdock::memory
