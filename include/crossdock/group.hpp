// SPDX-License-Identifier: Apache-2.0
// Groups of up to eight ranks on one host. A rank is a thread or a process with one device.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "crossdock/error.hpp"
#include "crossdock/types.hpp"

namespace crossdock {

/// Options of one rank. The backend, max_concurrent_calls and reserved_sms must be equal on all ranks.
struct GroupOptions {
  BackendKind backend = BackendKind::automatic;  ///< automatic: CROSSDOCK_BACKEND, else the first with a device
  int device = -1;  ///< ordinal of the driver; -1: the current device (CUDA, HIP). Not used on the CPU
  /// Longest wait for a peer, in kernels and while groups and exchanges are made. 0: no limit. Negative: the value of
  /// CROSSDOCK_DEADLINE_MS.
  std::chrono::milliseconds deadline{-1};
  /// Path of a file that `crossdock tune` wrote. `none`: no file. Empty: the value of CROSSDOCK_TUNING_FILE.
  /// ConfigError if the file was written for another device, number of ranks or version.
  std::string tuning_file = {};

  // A kernel that waits for a late peer must not hold all multiprocessors (SMs), because the peer may have to run
  // something else first: a collective, another exchange. So all blocks of a call that wait at one time hold at most
  // min(SMs / 2, (SMs - reserved_sms) / (max_concurrent_calls * ranks of this group on the device)) SMs, and at least
  // one. Kernels that only move rows have no such limit. Fixed when the group is made. No effect on the CPU.

  /// Calls of one rank that may run at the same time on different streams, of whatever exchange. At least 1.
  int max_concurrent_calls = 2;
  /// SMs left to others, above all to collectives. Negative: min(32, SMs / 4). ConfigError unless the device has more.
  int reserved_sms = -1;
};

/// Gathers `bytes` bytes from each rank: writes num_ranks * bytes bytes to `all`, in rank order. Collective; may throw.
using AllGather = std::function<void(const void* mine, std::size_t bytes, void* all)>;

namespace detail {
class GroupState;
class ThreadTeamState;
}  // namespace detail

/// Joins ranks that are threads of one process: make one and pass it to every thread. It may form several groups one
/// after another. After a failed join it cannot be used again. Copies refer to the same team.
class XD_PUBLIC ThreadTeam {
 public:
  explicit ThreadTeam(int num_ranks);  ///< UsageError unless 1 to 8
  int num_ranks() const;

 private:
  friend class Group;
  std::shared_ptr<detail::ThreadTeamState> state_;
};

/// The membership of one rank in a group. One thread at a time may use it; abort() is the exception. Move-only. The
/// destructor is local: it does not wait. Groups and exchanges may be destroyed in any order, also while calls run: see
/// Exchange.
class XD_PUBLIC Group {
 public:
  // The three ways to join are collective. Errors: usage, config, topology, peer_lost, system.

  /// Joins as `rank` of `team`, with the other threads of the team.
  static Group join(const ThreadTeam& team, int rank, const GroupOptions& options = {});

  /// Joins by an all-gather of the caller (MPI, torch.distributed, a store). Ranks may be threads, processes or a mix.
  /// The library calls it in the thread that creates a group or an exchange, never in dispatch or combine. What it
  /// refers to must stay valid as long as exchanges are created.
  static Group join(int rank, int num_ranks, AllGather all_gather, const GroupOptions& options = {});

  /// Joins processes of one host and one user by a common name: 1 to 64 characters of [A-Za-z0-9._-], equal on all
  /// ranks. Jobs of one user that run at the same time need different names, for example random ones.
  static Group rendezvous(const std::string& name, int rank, int num_ranks, const GroupOptions& options = {});

  Group(Group&&) noexcept;
  Group& operator=(Group&&) noexcept;
  ~Group();

  int rank() const;
  int num_ranks() const;
  BackendKind backend() const;
  int device() const;
  std::string device_model() const;  ///< the driver's name of the device
  std::string sharing() const;       ///< how processes map the group's memory, `vmm` or `ipc`, and the reason

  /// This rank's own abort, else the first failure that a call of this rank has met. Does not wait. Only calls detect
  /// the failure of a peer: the next call of this rank ends without waiting, and afterwards poll() returns the failure.
  /// Exchange::poll also returns reports that are not fatal.
  Status poll() const;

  /// Ends the group on every rank: running and later calls end with `aborted` and this reason (up to 207 bytes). Does
  /// not wait. Any thread may call it, also while another thread waits in a call. No effect after close() or a first
  /// abort of this rank.
  void abort(const std::string& reason);

  /// Sets the longest wait for a peer in kernels, also in those that are enqueued or running. 0: no limit; negative:
  /// UsageError. All-gathers of the constructor of Exchange keep the deadline of GroupOptions.
  void set_deadline(std::chrono::milliseconds deadline);

  /// Leaves the group. Local; legal twice. Afterwards dispatch, combine and new exchanges are `state` errors; poll() is
  /// legal.
  void close();

 private:
  friend class Exchange;
  explicit Group(std::shared_ptr<detail::GroupState> state);
  std::shared_ptr<detail::GroupState> state_;
};

}  // namespace crossdock
