// SPDX-License-Identifier: Apache-2.0
// Streams and graphs of the machine that tests run on: CpuStream and CpuGraph, or CUDA's.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

#include "crossdock/exchange.hpp"
#include "support/rank_memory.hpp"

namespace crossdock::testing {

/// Longer than any honest wait in a test, also under sanitizers on a busy machine.
inline constexpr std::chrono::milliseconds kPatience{60'000};

/// A recorded list of calls. Copies share it.
struct Graph {
  std::shared_ptr<void> recorded;
  std::size_t num_calls = 0;
};

class Stream {
 public:
  explicit Stream(BackendKind backend = backend_of_tests());
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  StreamHandle handle();
  CallOptions options();                     ///< of calls on this stream
  void enqueue(std::function<void()> call);  ///< `call` runs on the host; on a GPU it may not speak to the driver
  void synchronize();
  void begin_capture();
  Graph end_capture();
  void replay(const Graph& graph);

  struct State;  // one per machine, in stream.cpp

 private:
  std::unique_ptr<State> state_;
};

/// A gate in streams, open once as many as were asked for have arrived; or at the end of all patience.
class Gate {
 public:
  explicit Gate(int wanted) : wanted_(wanted) {}
  void arrive() { ++arrived_; }
  void hold_up(Stream& stream);

 private:
  const int wanted_;
  std::atomic<int> arrived_{0};
};

/// From now on calls of `exchange` without a stream are done when they return, as on the CPU; on a GPU they run on a
/// stream of the calling thread, so that ranks that share a device never queue up behind each other.
void run_calls_at_once(Exchange& exchange);

}  // namespace crossdock::testing
