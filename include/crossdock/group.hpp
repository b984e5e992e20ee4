// SPDX-License-Identifier: Apache-2.0
// Who takes part: a group of up to eight ranks on one host, made from threads or from processes.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "crossdock/error.hpp"
#include "crossdock/types.hpp"

namespace crossdock {

/// Choices of one rank about its part in a group.
struct GroupOptions {
  BackendKind backend = BackendKind::automatic;
  int device = -1;  ///< device ordinal as the driver counts; -1: the current device (CUDA, HIP). Unused on the CPU
  /// Longest wait for a peer, in kernels and while the group forms. 0: no limit. Negative: CROSSDOCK_DEADLINE_MS.
  std::chrono::milliseconds deadline{-1};
  /// Written by `crossdock tune` for these devices, ranks and version, else ConfigError. `none`; empty: CROSSDOCK_TUNING_FILE.
  std::string tuning_file = {};
};

/// Collects `bytes` bytes of every rank into `all` (rank order, num_ranks * bytes). Collective; may throw.
using AllGather = std::function<void(const void* mine, std::size_t bytes, void* all)>;

namespace detail {
class GroupState;
class ThreadTeamState;
}  // namespace detail

/// The meeting point of ranks that are threads of one process. Make one, give it to every thread. It may form several
/// groups one after another; after a failed join make a new one. Copies share the meeting point.
class XD_PUBLIC ThreadTeam {
 public:
  explicit ThreadTeam(int num_ranks);
  int num_ranks() const;

 private:
  friend class Group;
  std::shared_ptr<detail::ThreadTeamState> state_;
};

/// Membership of one rank, for one thread at a time, but for abort(). Move-only; the destructor is local (no wait, no collective).
/// Exchanges keep what they need of it alive: destroy in any order, also while calls are under way (see Exchange).
class XD_PUBLIC Group {
 public:
  /// Joins as `rank` of `team`. Collective over the team's threads. Errors of all three: usage, topology, peer_lost, system.
  static Group join(const ThreadTeam& team, int rank, const GroupOptions& options = {});

  /// Joins by an all-gather of the caller's (MPI, torch.distributed, a store). Collective. The callback is used while
  /// groups and exchanges are created, by the thread that does so, never in dispatch or combine; it, and what it refers
  /// to, must live until the last exchange has been made. Ranks may be threads, processes or a mix.
  static Group join(int rank, int num_ranks, AllGather all_gather, const GroupOptions& options = {});

  /// Joins processes of one host that share nothing but `name`: 1 to 64 of [A-Za-z0-9._-], alike on all ranks and
  /// unlike any other job's (take a random one). Only processes of the same user can join.
  static Group rendezvous(const std::string& name, int rank, int num_ranks, const GroupOptions& options = {});

  Group(Group&&) noexcept;
  Group& operator=(Group&&) noexcept;
  ~Group();

  int rank() const;
  int num_ranks() const;
  BackendKind backend() const;
  int device() const;
  std::string device_model() const;  ///< as its driver calls it
  std::string sharing() const;       ///< the mode in which processes map its memory, `vmm` or `ipc`, and why

  /// The first failure that a call of this rank has met, without waiting. A rank that runs no call does not hear of a
  /// peer's failure: its next call falls through, and poll() tells after that. See Exchange::poll for other reports.
  Status poll() const;

  /// Stops every member: running and later calls end with `aborted` and this reason (up to 207 bytes). Never waits; any
  /// thread may call it, also while another waits in a call.
  void abort(const std::string& reason);

  /// Longest wait in kernels enqueued or already running; 0 = no limit.
  void set_deadline(std::chrono::milliseconds deadline);

  /// Leaves the group. Local; legal twice. Then dispatch, combine and new exchanges are `state` errors; poll() answers.
  void close();

 private:
  friend class Exchange;
  explicit Group(std::shared_ptr<detail::GroupState> state);
  std::shared_ptr<detail::GroupState> state_;
};

}  // namespace crossdock
