// SPDX-License-Identifier: Apache-2.0
// State of a group on one rank: peers, device, and the control words, by which a rank that fails stops the others.
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
  /// Collective over `sharing.all_gather`. `problem`, if not empty: why this rank cannot join; all ranks then throw it.
  GroupState(memory::Sharing sharing, BackendKind backend, const GroupOptions& options, const std::string& tuning_file,
             const std::string& problem);
  ~GroupState();

  int rank() const { return sharing_.rank; }
  int num_ranks() const { return sharing_.num_ranks; }
  const memory::Sharing& sharing() const { return sharing_; }
  platform::Device& device() const { return *sharing_.device; }
  /// Entries of the tuning file, none if there is no file.
  const std::vector<tuning::Entry>& tuned() const { return tuned_; }
  /// Ranks of this group on this rank's device, itself included: their grids must be resident together.
  int ranks_on_device() const { return ranks_on_device_; }
  /// Most blocks of one launch that may wait for peers: see GroupOptions::max_concurrent_calls.
  int waiting_blocks() const { return waiting_blocks_; }
  /// Ranks of ranks_on_device() that are threads of this process.
  int threads_on_device() const { return threads_on_device_; }

  /// Runs the local step of a collective call. If it throws on any rank, every rank throws: see memory::agree.
  void run_collectively(const char* what, const std::function<void()>& step) const;

  /// Pointers for kernels: where they report failures, and where they find those of peers. `report` is the exchange's.
  sync::FaultView faults(sync::ReportRecord* report) const;
  /// Adds the memory behind faults() to `deferred_release`, so that it outlives the calls that use it.
  void hold_fault_memory(memory::DeferredRelease& deferred_release) const;

  Status poll() const;
  /// Throws the first failure, or StateError after close. `call` is named in the text.
  void check(const char* call) const;
  void abort(const std::string& reason);
  void set_deadline(std::chrono::milliseconds deadline);
  void close() { closed_ = true; }

 private:
  sync::Control* control(int rank) const { return reinterpret_cast<sync::Control*>(control_.base(rank)); }
  const sync::FailureRecord& failure() const { return *reinterpret_cast<const sync::FailureRecord*>(failure_->data()); }
  void read_tuning(const std::string& file);
  void check_sms(const GroupOptions& options) const;
  std::string reason_of(int origin) const;
  std::string message_of(const Status& status, const sync::FailureRecord& record) const;

  memory::Sharing sharing_;
  std::vector<tuning::Entry> tuned_;
  memory::PeerMemory control_;
  platform::BlockPtr failure_;
  std::optional<memory::DeferredRelease> deferred_release_;  // of the host's writes to control words
  platform::Event* end_of_writes_ = nullptr;
  // Reason of this rank's abort. The thread that claims it first writes it; others read it once it is published.
  std::string own_abort_;
  std::atomic<bool> own_abort_claimed_{false}, own_abort_published_{false};
  int ranks_on_device_ = 1, threads_on_device_ = 1, waiting_blocks_ = 1, max_concurrent_calls_ = 1;
  std::atomic<bool> closed_{false};
};

}  // namespace crossdock::detail
