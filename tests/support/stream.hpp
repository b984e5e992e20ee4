// SPDX-License-Identifier: Apache-2.0
// Streams and graphs of the machine that tests run on: CpuStream and CpuGraph, or those of a GPU's vendor.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

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
  CallOptions options();  ///< of calls on this stream
  /// `call` runs on the host; on a GPU it may not speak to the driver. Where ranks share a GPU, use pause() and Gate: while
  /// a kernel of another stream of the device waits, the driver need not begin with `call` nor with what is behind it.
  void enqueue(std::function<void()> call);
  void pause(std::chrono::microseconds time);
  /// Waits until the word, of this stream's device, is not 0, or for kPatience.
  void hold(std::uint32_t* word);
  /// A collective of others, on a GPU: kMeetBlocks blocks that wait, kPatience at most, until `num_blocks` have added one
  /// to words[0], over all meetings. words[1] counts those that have waited too long.
  void meet(std::uint32_t* words, int num_blocks);
  void synchronize();
  void begin_capture();
  Graph end_capture();
  void replay(const Graph& graph);

  struct State;  // one per machine, see machine.hpp

 private:
  BackendKind backend_;
  std::unique_ptr<State> state_;
};

/// A gate in streams, open once as many as were asked for have arrived; or at the end of all patience. Outlives what it
/// has held up.
class Gate {
 public:
  explicit Gate(int wanted, BackendKind backend = backend_of_tests()) : wanted_(wanted), backend_(backend) {}
  void arrive();
  /// The stream is of the calling thread's current device.
  void hold_up(Stream& stream);

 private:
  struct Word {
    int device;
    Buffer memory;
  };
  const int wanted_;
  const BackendKind backend_;
  std::mutex mutex_;
  int arrived_ = 0;
  std::vector<Word> words_;  // one of each stream
};

/// From now on calls of `exchange` without a stream are done when they return, as on the CPU; on a GPU they run on a
/// stream of the calling thread, so that ranks that share a device never queue up behind each other.
void run_calls_at_once(Exchange& exchange);

}  // namespace crossdock::testing
