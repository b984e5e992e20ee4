// SPDX-License-Identifier: Apache-2.0
// GPUs as tests use them, over a vendor's runtime (tools/gpu/runtime.hpp).
#pragma once

#include <map>

#include "gpu/runtime.hpp"
#include "support/machine.hpp"

namespace crossdock::testing {

template <class R>
struct GpuMachine {
  using Stream = typename R::Stream;

  static void check(typename R::Error error) { tools::gpu::check<R>(error, "tests: a call of the runtime"); }

  /// A runtime that is looked up is there from here on.
  static void need_runtime() {
    if (const std::string problem = R::problem(); !problem.empty()) throw std::runtime_error("tests: " + problem);
  }

  static int num_devices() {
    int count = 0;
    need_runtime();
    check(R::GetDeviceCount(&count));
    return count;
  }
  static int current_device() {
    int device = 0;
    need_runtime();
    check(R::GetDevice(&device));
    return device;
  }
  static void use(int device) {
    need_runtime();
    check(R::SetDevice(device));
    (void)own();  // streams are made before kernels that wait
    (void)stream_of_allocations();
  }
  static std::uint64_t free_bytes() {
    std::size_t free = 0, all = 0;
    typename R::MemPool pool{};
    check(R::DeviceGetDefaultMemPool(&pool, current_device()));
    check(R::StreamSynchronize(stream_of_allocations()));
    check(R::MemPoolTrimTo(pool, 0));  // what buffers of tests gave back is no leak
    check(R::MemGetInfo(&free, &all));
    return free;
  }
  static std::string last_error() {
    need_runtime();
    const auto error = R::PeekAtLastError();
    return error == typename R::Error{} ? "" : R::GetErrorString(error);
  }

  static std::shared_ptr<void> allocate(std::size_t bytes) {
    void* data = nullptr;
    const Stream stream = stream_of_allocations();
    check(R::MallocAsync(&data, bytes, stream));
    check(R::StreamSynchronize(stream));
    return std::shared_ptr<void>(data, [stream](void* p) { (void)R::FreeAsync(p, stream); });
  }
  static void fill(void* to, std::uint8_t value, std::size_t bytes) {
    check(R::MemsetAsync(to, value, bytes, own()));
    check(R::StreamSynchronize(own()));
  }
  static void copy(void* to, const void* from, std::size_t bytes) { enqueue_copy(to, from, bytes, nullptr); }
  static void enqueue_copy(void* to, const void* from, std::size_t bytes, StreamHandle stream) {
    check(R::MemcpyAsync(to, from, bytes, R::kCopy, stream ? static_cast<Stream>(stream) : own()));
    if (!stream) check(R::StreamSynchronize(own()));
  }
  static void synchronize(StreamHandle stream) {
    need_runtime();
    check(R::StreamSynchronize(stream ? static_cast<Stream>(stream) : own()));
  }
  static StreamHandle own_stream() { return own(); }

  struct State : testing::Stream::State {
    Stream stream = nullptr;
    State() {
      need_runtime();
      check(R::StreamCreateWithFlags(&stream, R::kNonBlocking));
    }
    ~State() override {
      (void)R::StreamSynchronize(stream);
      (void)R::StreamDestroy(stream);
    }
    StreamHandle handle() override { return stream; }
    void enqueue(std::function<void()> call) override {
      const auto run = [](void* data) {
        const std::unique_ptr<std::function<void()>> call(static_cast<std::function<void()>*>(data));
        (*call)();
      };
      check(R::LaunchHostFunc(stream, run, new std::function<void()>(std::move(call))));
    }
    void synchronize() override { check(R::StreamSynchronize(stream)); }
    void begin_capture() override { check(R::StreamBeginCapture(stream, R::kCaptureMode)); }
    Graph end_capture() override {
      typename R::Graph captured = nullptr;
      typename R::GraphExec exec = nullptr;
      std::size_t num_nodes = 0;
      check(R::StreamEndCapture(stream, &captured));
      check(R::GraphGetNodes(captured, nullptr, &num_nodes));
      check(R::GraphInstantiateWithFlags(&exec, captured, 0));
      check(R::GraphDestroy(captured));
      check(R::upload(exec, stream));  // a first launch would do it, and wait for kernels of other ranks
      check(R::StreamSynchronize(stream));
      const auto destroy = [](void* e) { (void)R::GraphExecDestroy(static_cast<typename R::GraphExec>(e)); };
      return {std::shared_ptr<void>(exec, destroy), num_nodes};
    }
    void replay(const Graph& graph) override {
      check(R::GraphLaunch(static_cast<typename R::GraphExec>(graph.recorded.get()), stream));
    }
  };
  static std::unique_ptr<testing::Stream::State> make_stream() { return std::make_unique<State>(); }

  /// `kLaunch`: starts a step's kernel and returns the runtime's error.
  template <auto kLaunch>
  static void step(StepKind kind, StreamHandle stream, const Step& step) {
    constexpr int kBlocks = 32;
    const bool wide = kind == StepKind::choose || kind == StepKind::compare;
    const int blocks = wide ? kBlocks : kind == StepKind::meet ? kMeetBlocks : 1;
    check(kLaunch(kind, blocks, wide ? kStepThreads : R::kWidth, static_cast<Stream>(stream), &step));
  }

  static void post(std::uint32_t* word, int device) {
    const std::uint32_t one = 1;
    const int before = current_device();
    use(device);  // memory of a pool is copied to by its own device
    const Stream stream = stream_of_allocations();
    check(R::MemcpyAsync(word, &one, sizeof one, R::kCopy, stream));
    check(R::StreamSynchronize(stream));
    use(before);
  }

  template <auto kLaunch>
  static constexpr Machine table{num_devices, current_device, use,           free_bytes,   last_error,
                                 allocate,    fill,           copy,          enqueue_copy, synchronize,
                                 own_stream,  make_stream,    step<kLaunch>, post,         R::kVisible};

 private:
  /// Allocations and frees in the order of a stream of each device that runs nothing else: a plain free would wait for the
  /// kernels of every rank on the device, of which one may wait for the rank that frees.
  static Stream stream_of_allocations() {
    need_runtime();
    return tools::gpu::side_stream<R>();
  }
  static Stream own() {
    struct Streams {
      std::map<int, Stream> by_device;
      ~Streams() {
        for (const auto& [device, stream] : by_device) (void)R::StreamDestroy(stream);
      }
    };
    thread_local Streams streams;
    Stream& stream = streams.by_device[current_device()];
    if (!stream) check(R::StreamCreateWithFlags(&stream, R::kNonBlocking));
    return stream;
  }
};

}  // namespace crossdock::testing
