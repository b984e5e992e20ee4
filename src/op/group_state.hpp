// SPDX-License-Identifier: Apache-2.0
// What one rank knows of its group: peers, device, the words by which ranks stop one another.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "crossdock/group.hpp"
#include "memory/deferred_release.hpp"
#include "memory/peer_memory.hpp"
#include "sync/status.hpp"
#include "tuning/file.hpp"

namespace crossdock::detail {

class GroupState {
 public:
  /// Collective over `sharing.all_gather`.
  GroupState(memory::Sharing sharing, BackendKind backend, int device, const std::string& tuning_file);
  ~GroupState();

  int rank() const { return sharing_.rank; }
  int num_ranks() const { return sharing_.num_ranks; }
  const memory::Sharing& sharing() const { return sharing_; }
  platform::Device& device() const { return *sharing_.device; }
  /// Entries of the tuning file, none if there is no file.
  const std::vector<tuning::Entry>& tuned() const { return tuned_; }
  /// Ranks of this group on this rank's device, itself included: their grids must be resident together.
  int ranks_on_device() const { return ranks_on_device_; }
  /// Those of them that are threads of this process.
  int threads_on_device() const { return threads_on_device_; }

  /// Runs a local step of something collective; where it fails on a rank, every rank throws its error.
  void run_collectively(const char* what, const std::function<void()>& step) const;

  /// The part of a kernel's view that belongs to the group; `report` is the exchange's.
  sync::FaultView faults(sync::ReportRecord* report) const;
  /// Makes what faults() points to live as long as the calls that were given it.
  void hold_watched(memory::DeferredRelease& deferred_release) const;

  Status poll() const;
  /// Throws the first failure, or StateError after close; `call` names who asks.
  void check(const char* call) const;
  void abort(const std::string& reason);
  void set_deadline(std::chrono::milliseconds deadline);
  void close() { closed_ = true; }

 private:
  sync::Control* control(int rank) const { return reinterpret_cast<sync::Control*>(control_.base(rank)); }
  const sync::FailureRecord& failure() const { return *reinterpret_cast<const sync::FailureRecord*>(failure_->data()); }
  void read_tuning(const std::string& file);
  std::string reason_of(int origin) const;
  std::string message_of(const Status& status, const sync::FailureRecord& record) const;

  memory::Sharing sharing_;
  std::vector<tuning::Entry> tuned_;
  memory::PeerMemory control_;
  platform::BlockPtr failure_;
  std::optional<memory::DeferredRelease> in_use_;  // by posts, for kernels are the exchanges'
  platform::Event* end_of_posts_ = nullptr;
  std::string own_abort_;  // set once, by any thread
  std::atomic<bool> own_abort_claimed_{false}, own_abort_told_{false};
  int ranks_on_device_ = 1, threads_on_device_ = 1;
  std::atomic<bool> closed_{false};
};

}  // namespace crossdock::detail
