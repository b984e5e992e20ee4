// SPDX-License-Identifier: Apache-2.0
#include "stream.hpp"

#include <pthread.h>

#include <string>
#include <thread>

#include "crossdock/error.hpp"

#include "binding.hpp"
#include "torch_tensor.hpp"

namespace crossdock::python {

namespace nb = nanobind;

namespace {

std::atomic<unsigned> forks{0};
thread_local std::vector<PyStream*> current_streams;

}  // namespace

unsigned forks_so_far() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { ++forks; });
  return registered == 0 ? forks.load(std::memory_order_relaxed) : 0;
}

void check_not_forked(unsigned forks_then, const char* call) {
  if (forks_then != forks_so_far())
    throw StateError(std::string(call) +
                     ": this process was forked after the object was made, and a group's memory and threads stay " +
                     "with the parent; start processes by spawn, or form the group in the child");
}

PyStream::PyStream() : stream_(std::make_unique<CpuStream>()), forks_(forks_so_far()) {}

PyStream::~PyStream() {
  for (PyStream*& current : current_streams)
    if (current == this) current = nullptr;
  if (forks_ != forks_so_far()) {
    stream_.release();  // its thread runs in the parent only
    return;
  }
  // Queued calls may wait for a peer. So another thread destroys the stream: neither the garbage collector nor the exit
  // of the interpreter may wait. If calls are still queued, the arrays that they use are never freed.
  auto* kept = new std::deque<std::pair<std::uint64_t, Held>>(std::move(held_));
  const bool idle = finished_->load(std::memory_order_acquire) == enqueued_;
  if (idle) delete kept;
  std::thread([stream = std::move(stream_)]() mutable { stream.reset(); }).detach();
}

void PyStream::check(const char* call) const { check_not_forked(forks_, call); }
void* PyStream::handle() {
  check("CpuStream");
  return stream_->handle();
}
bool PyStream::capturing() const { return stream_->capturing(); }

void PyStream::drop_finished() {
  const std::uint64_t done = finished_->load(std::memory_order_acquire);
  while (!held_.empty() && held_.front().first <= done) held_.pop_front();
}

void PyStream::hold(Held objects) {
  if (capturing()) {
    captured_->insert(captured_->end(), objects.begin(), objects.end());
    return;
  }
  drop_finished();
  held_.emplace_back(++enqueued_, std::move(objects));
  stream_->enqueue([done = finished_, number = enqueued_] { done->store(number, std::memory_order_release); });
}

void PyStream::enqueue(std::function<void()> call) { stream_->enqueue(std::move(call)); }

void PyStream::synchronize() {
  check("CpuStream.synchronize");
  {
    nb::gil_scoped_release others_run;
    stream_->synchronize();
  }
  drop_finished();
}

void PyStream::begin_capture() {
  check("CpuStream.begin_capture");
  if (capturing()) throw StateError("CpuStream.begin_capture: this stream is capturing already");
  captured_ = std::make_shared<Held>();
  stream_->begin_capture();
}

PyGraph PyStream::end_capture() {
  if (!capturing()) throw StateError("CpuStream.end_capture: this stream is not capturing; call begin_capture first");
  return {stream_->end_capture(), std::move(captured_)};
}

void PyStream::replay(const PyGraph& graph) {
  check("CpuStream.replay");
  stream_->replay(graph.graph);
  hold(*graph.held);
}

Target target_of(nb::handle stream, const Caller& caller) {
  const bool is_cpu = caller.backend == BackendKind::cpu;
  if (stream.is_none()) {
    if (!is_cpu) return {torch_current_stream(caller.device), nullptr};
    PyStream* current = current_streams.empty() ? nullptr : current_streams.back();
    return {current ? current->handle() : nullptr, current};
  }
  PyStream* cpu = nullptr;
  const bool is_cpu_stream = nb::try_cast(stream, cpu) && cpu;
  const std::string what = caller.text("stream") + " is a " + nb::type_name(stream.type()).c_str();
  if (is_cpu_stream != is_cpu)
    throw UsageError(what + ", the group is on " + std::string(name_of(caller.backend)) + "; pass a " +
                     (is_cpu ? "CpuStream" : "stream of the GPU"));
  if (is_cpu) return {cpu->handle(), cpu};
  nb::object number = nb::borrow(stream);
  if (nb::hasattr(stream, "__cuda_stream__"))
    number = stream.attr("__cuda_stream__")()[1];
  else if (nb::hasattr(stream, "cuda_stream"))
    number = stream.attr("cuda_stream");  // torch
  else if (nb::hasattr(stream, "ptr"))
    number = stream.attr("ptr");  // CuPy
  std::uintptr_t value;
  if (!nb::try_cast(number, value)) throw UsageError(what + "; pass torch's, CuPy's, or a handle as an int");
  return {reinterpret_cast<void*>(value), nullptr};
}

void bind_stream(nb::module_& module) {
  nb::class_<PyGraph>(module, "CpuGraph",
                      "A recorded list of calls; CpuStream.replay runs it. Keeps the arrays of its calls alive.")
      .def_prop_ro(
          "num_calls", [](const PyGraph& graph) { return graph.graph.num_calls(); }, "Calls in the list.");
  nb::class_<PyStream>(
      module, "CpuStream",
      R"(A queue of calls of the CPU backend, with a thread that runs them in order: what a CUDA stream is on a GPU.

`with stream:` makes it the current stream of this Python thread; leaving waits until the queue is empty. Arrays of enqueued
calls are kept alive until the calls have run. Collecting a stream never waits for its queue.)")
      .def(nb::init<>())
      .def("synchronize", &PyStream::synchronize, "Waits until the queue is empty. Other Python threads run meanwhile.")
      .def("begin_capture", &PyStream::begin_capture, "From here on calls are recorded, not run.")
      .def("end_capture", &PyStream::end_capture, "Ends the recording.")
      .def_prop_ro("capturing", &PyStream::capturing, "Whether calls are recorded instead of run.")
      .def("replay", &PyStream::replay, nb::arg("graph"), "Enqueues the recorded calls.")
      .def(
          "__enter__",
          [](PyStream& stream) -> PyStream& {
            current_streams.push_back(&stream);
            return stream;
          },
          nb::rv_policy::reference)
      .def("__exit__", [](PyStream& stream, nb::args) {
        if (!current_streams.empty()) current_streams.pop_back();
        if (!stream.capturing()) stream.synchronize();
      });
}

}  // namespace crossdock::python
