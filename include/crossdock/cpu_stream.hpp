// SPDX-License-Identifier: Apache-2.0
// Streams and graphs of the CPU machine: a queue with a thread of its own, and a recorded list of calls.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "crossdock/types.hpp"

namespace crossdock {

/// A recorded list of calls, replayed any number of times on any CPU stream. Copies share the list. Calls keep the
/// addresses they were recorded with: exchange, inputs and outputs must outlive it.
class XD_PUBLIC CpuGraph {
 public:
  std::size_t num_calls() const;

 private:
  friend class CpuStream;
  std::shared_ptr<const std::vector<std::function<void()>>> calls_;
};

/// A queue of calls and the thread that runs them in order. The destructor runs what is queued, then joins.
class XD_PUBLIC CpuStream {
 public:
  CpuStream();
  ~CpuStream();
  CpuStream(const CpuStream&) = delete;
  CpuStream& operator=(const CpuStream&) = delete;

  StreamHandle handle();  ///< what calls take as their stream
  /// Runs `call` after everything enqueued before, or records it. From any thread.
  void enqueue(std::function<void()> call);
  void synchronize();  ///< waits until the queue is empty; throws what a queued call threw first since the last time

  void begin_capture();    ///< from here on calls are recorded, not run
  CpuGraph end_capture();  ///< ends the recording
  bool capturing() const;
  void replay(const CpuGraph& graph);  ///< enqueues the recorded calls

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace crossdock
