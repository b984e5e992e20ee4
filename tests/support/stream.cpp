// SPDX-License-Identifier: Apache-2.0
#include "support/stream.hpp"

#include "crossdock/cpu_stream.hpp"
#include "support/cuda.hpp"

namespace crossdock::testing {

/// What a machine's stream can do.
struct Stream::State {
  virtual ~State() = default;
  virtual StreamHandle handle() = 0;
  virtual void enqueue(std::function<void()> call) = 0;
  virtual void synchronize() = 0;
  virtual void begin_capture() = 0;
  virtual Graph end_capture() = 0;
  virtual void replay(const Graph& graph) = 0;
};

namespace {

struct CpuState : Stream::State {
  CpuStream stream;
  StreamHandle handle() override { return stream.handle(); }
  void enqueue(std::function<void()> call) override { stream.enqueue(std::move(call)); }
  void synchronize() override { stream.synchronize(); }
  void begin_capture() override { stream.begin_capture(); }
  Graph end_capture() override {
    const auto graph = std::make_shared<CpuGraph>(stream.end_capture());
    return {graph, graph->num_calls()};
  }
  void replay(const Graph& graph) override { stream.replay(*static_cast<const CpuGraph*>(graph.recorded.get())); }
};

#ifdef CROSSDOCK_WITH_CUDA
struct CudaState : Stream::State {
  cudaStream_t stream = nullptr;
  CudaState() { check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
  ~CudaState() override {
    cudaStreamSynchronize(stream);
    cudaStreamDestroy(stream);
  }
  StreamHandle handle() override { return stream; }
  void enqueue(std::function<void()> call) override {
    const auto run = [](void* data) {
      const std::unique_ptr<std::function<void()>> call(static_cast<std::function<void()>*>(data));
      (*call)();
    };
    check(cudaLaunchHostFunc(stream, run, new std::function<void()>(std::move(call))));
  }
  void synchronize() override { check(cudaStreamSynchronize(stream)); }
  void begin_capture() override { check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal)); }
  Graph end_capture() override {
    cudaGraph_t captured = nullptr;
    cudaGraphExec_t exec = nullptr;
    std::size_t num_nodes = 0;
    check(cudaStreamEndCapture(stream, &captured));
    check(cudaGraphGetNodes(captured, nullptr, &num_nodes));
    check(cudaGraphInstantiate(&exec, captured, 0));
    check(cudaGraphDestroy(captured));
    return {std::shared_ptr<void>(exec, [](void* e) { cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(e)); }),
            num_nodes};
  }
  void replay(const Graph& graph) override {
    check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph.recorded.get()), stream));
  }
};
#endif

std::unique_ptr<Stream::State> make_state(BackendKind backend) {
#ifdef CROSSDOCK_WITH_CUDA
  if (backend == BackendKind::cuda) return std::make_unique<CudaState>();
#endif
  (void)backend;
  return std::make_unique<CpuState>();
}

}  // namespace

Stream::Stream(BackendKind backend) : state_(make_state(backend)) {}
Stream::~Stream() = default;
StreamHandle Stream::handle() { return state_->handle(); }
CallOptions Stream::options() {
  CallOptions options;
  options.stream = handle();
  return options;
}
void Stream::enqueue(std::function<void()> call) { state_->enqueue(std::move(call)); }
void Stream::synchronize() { state_->synchronize(); }
void Stream::begin_capture() { state_->begin_capture(); }
Graph Stream::end_capture() { return state_->end_capture(); }
void Stream::replay(const Graph& graph) { state_->replay(graph); }

}  // namespace crossdock::testing
