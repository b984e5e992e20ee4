// SPDX-License-Identifier: Apache-2.0
// Streams: CpuStream in Python, and what a call's `stream` argument means.
#pragma once

#include <nanobind/nanobind.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "crossdock/cpu_stream.hpp"

#include "tensor.hpp"

namespace crossdock::python {

/// Python objects that enqueued calls read or write.
using Held = std::vector<nanobind::object>;

struct PyGraph {
  CpuGraph graph;
  std::shared_ptr<Held> held = std::make_shared<Held>();  // arrays of the calls, kept alive as long as the graph
};

/// A CpuStream that keeps the arrays of enqueued calls alive until they have run. Collecting it never waits.
class PyStream {
 public:
  PyStream();
  ~PyStream();
  PyStream(const PyStream&) = delete;
  PyStream& operator=(const PyStream&) = delete;

  void* handle();
  void hold(Held objects);  // until the calls enqueued so far have run; while capturing: as long as the graph
  void enqueue(std::function<void()> call);
  void synchronize();
  void begin_capture();
  PyGraph end_capture();
  bool capturing() const;
  void replay(const PyGraph& graph);

 private:
  void drop_finished();
  void check(const char* call) const;

  std::unique_ptr<CpuStream> stream_;
  std::shared_ptr<std::atomic<std::uint64_t>> finished_ = std::make_shared<std::atomic<std::uint64_t>>(0);
  std::uint64_t enqueued_ = 0;
  std::deque<std::pair<std::uint64_t, Held>> held_;
  std::shared_ptr<Held> captured_;
  unsigned forks_;
};

/// Where a call is enqueued.
struct Target {
  void* handle = nullptr;
  PyStream* cpu = nullptr;
};

/// None: torch's current stream on a GPU; on the CPU the stream of the innermost `with`, or the calling thread.
Target target_of(nanobind::handle stream, const Caller& caller);

}  // namespace crossdock::python
