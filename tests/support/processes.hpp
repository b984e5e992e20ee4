// SPDX-License-Identifier: Apache-2.0
// Ranks as processes: forked from the test while it has one thread, each reports a text through a pipe.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

namespace crossdock::testing {

/// How a process ended and what it said.
struct ProcessReport {
  pid_t pid = 0;
  int exit_status = -1;  ///< as of waitpid
  std::string text;      ///< what its body returned; an exception is text too
};

/// Runs body(rank) in a process per rank and waits for all, at most `patience_s` seconds each; a process that outlives it is
/// killed and its report says so. `meanwhile` runs in the parent with the processes' ids.
std::vector<ProcessReport> run_processes(int num_ranks, const std::function<std::string(int rank)>& body,
                                         const std::function<void(const std::vector<pid_t>&)>& meanwhile = {},
                                         int patience_s = 90);

/// A number that processes forked after it share.
class SharedCount {
 public:
  SharedCount();
  ~SharedCount();
  SharedCount(const SharedCount&) = delete;
  SharedCount& operator=(const SharedCount&) = delete;
  void add() const { ++*count_; }
  /// Until it is `count`; throws after `patience`.
  void await(int count, std::chrono::milliseconds patience) const;

 private:
  std::atomic<int>* count_;
};

/// As many ranks as have a GPU of their own, from 2 to `most`; 3 on the CPU; or CROSSDOCK_TEST_RANKS. Processes that share a GPU
/// take turns on it, some milliseconds each. Asks no driver: that would have to wait until the ranks are forked.
int ranks_with_devices(int most);

/// A rendezvous name that no other test run has.
std::string unique_name();

/// A folder for rendezvous sockets that is removed with the object; CROSSDOCK_RUNTIME_DIR points there meanwhile.
class RuntimeDir {
 public:
  RuntimeDir();
  ~RuntimeDir();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace crossdock::testing
