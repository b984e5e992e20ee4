// SPDX-License-Identifier: Apache-2.0
// Streams and graphs of the CPU backend. A stream is a queue with one thread; a graph is a recorded list of calls.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "crossdock/types.hpp"

namespace crossdock {

/// A recorded list of calls. Any CPU stream can replay it, any number of times. Copies refer to the same list. A replay
/// uses the recorded addresses, so the exchange, its inputs and its outputs must outlive the graph.
class XD_PUBLIC CpuGraph {
 public:
  std::size_t num_calls() const;

 private:
  friend class CpuStream;
  std::shared_ptr<const std::vector<std::function<void()>>> calls_;
};

/// A queue of calls and the thread that runs them in order. The destructor waits until the queued calls have run.
class XD_PUBLIC CpuStream {
 public:
  CpuStream();
  ~CpuStream();
  CpuStream(const CpuStream&) = delete;
  CpuStream& operator=(const CpuStream&) = delete;

  StreamHandle handle();  ///< for CallOptions::stream
  /// Runs `call` after all calls enqueued before; during a capture, records it. Any thread may call this.
  void enqueue(std::function<void()> call);
  /// Waits until the queue is empty. Throws the first exception of a queued call since the last synchronize().
  /// StateError during a capture, or if a call that runs on this stream calls it.
  void synchronize();

  void begin_capture();    ///< until end_capture(), calls are recorded and do not run; StateError if capturing
  CpuGraph end_capture();  ///< the recorded calls; StateError if not capturing
  bool capturing() const;
  void replay(const CpuGraph& graph);  ///< enqueues the recorded calls; during a capture, records them

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace crossdock
