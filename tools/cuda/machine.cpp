// SPDX-License-Identifier: Apache-2.0
// NVIDIA GPUs as a machine of tools. Each device has one stream for copies, so that they never wait for kernels of ranks.
#include "machine.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <mutex>
#include <utility>

#include "cuda/check.hpp"
#include "cuda/kernels.hpp"
#include "cuda/limits.hpp"
#include "machines.hpp"
#include "verbs.hpp"

namespace crossdock::tools {
namespace {

using cuda::check;

class CudaQueue : public Queue {
 public:
  CudaQueue() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "creating a stream"); }
  ~CudaQueue() override {
    if (graph_) cudaGraphExecDestroy(graph_);
    for (const cudaEvent_t event : marks_) cudaEventDestroy(event);
    cudaStreamDestroy(stream_);
  }
  StreamHandle handle() override { return stream_; }
  void synchronize() override { check(cudaStreamSynchronize(stream_), "waiting for a stream"); }
  void begin_capture() override {
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "beginning a capture");
  }
  void end_capture() override {
    cudaGraph_t captured = nullptr;
    check(cudaStreamEndCapture(stream_, &captured), "ending a capture");
    if (graph_) check(cudaGraphExecDestroy(std::exchange(graph_, nullptr)), "destroying a graph");
    const cudaError_t error = cudaGraphInstantiate(&graph_, captured, 0);
    cudaGraphDestroy(captured);
    check(error, "instantiating a graph");
    check(cudaGraphUpload(graph_, stream_), "uploading a graph");
    synchronize();
  }
  void replay() override { check(cudaGraphLaunch(graph_, stream_), "launching a graph"); }
  void mark(int idx) override {
    while (marks_.size() <= static_cast<std::size_t>(idx)) check(cudaEventCreate(&marks_.emplace_back()), "an event");
    cudaStreamCaptureStatus capturing{};
    check(cudaStreamIsCapturing(stream_, &capturing), "asking a stream");
    const unsigned flags = capturing == cudaStreamCaptureStatusNone ? cudaEventRecordDefault : cudaEventRecordExternal;
    check(cudaEventRecordWithFlags(marks_[static_cast<std::size_t>(idx)], stream_, flags), "recording an event");
  }
  double us_between(int first, int last) override {
    float ms = 0;
    check(cudaEventElapsedTime(&ms, marks_.at(first), marks_.at(last)), "reading events");
    return static_cast<double>(ms) * 1e3;
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  std::vector<cudaEvent_t> marks_;
};

class CudaMachine : public Machine {
 public:
  explicit CudaMachine(const std::vector<int>& devices) : devices_(devices) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0)
      throw BadInput(std::string("backend cuda: ") +
                     (error == cudaSuccess ? "there is no device" : cudaGetErrorString(error)) + "; choose cpu");
    for (const int device : devices_)
      if (device < 0 || device >= count)
        throw BadInput("--devices: there is no device " + std::to_string(device) + "; there are 0 to " +
                       std::to_string(count - 1) + ", as CUDA_VISIBLE_DEVICES numbers them");
    for (int device = 0; devices.empty() && device < count; ++device) devices_.push_back(device);
  }

  BackendKind kind() const override { return BackendKind::cuda; }
  std::string host() const override {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, devices_[0]), "reading device properties");
    return std::to_string(devices_.size()) + "x " + properties.name;
  }
  std::string driver() const override {
    int version = 0;
    check(cudaDriverGetVersion(&version), "cudaDriverGetVersion");
    std::string text = "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
    std::ifstream module("/proc/driver/nvidia/version");
    std::string word;
    while (module >> word)
      if (word.size() > 5 && word.find_first_not_of("0123456789.") == std::string::npos) return word + ", " + text;
    return text;
  }
  int device_of(int rank) const override { return devices_[static_cast<std::size_t>(rank) % devices_.size()]; }
  void use(int rank) override { check(cudaSetDevice(device_of(rank)), "cudaSetDevice"); }

  DeviceBytes allocate(std::size_t bytes) override {
    const cudaStream_t stream = copies();
    void* data = nullptr;
    check(cudaMallocAsync(&data, std::max<std::size_t>(bytes, 16), stream),
          ("allocating " + std::to_string(bytes) + " bytes on the device").c_str());
    check(cudaStreamSynchronize(stream), "allocating");
    return DeviceBytes(static_cast<std::byte*>(data), [stream](std::byte* p) { cudaFreeAsync(p, stream); });
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (!bytes) return;
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, copies()), "copying");
    check(cudaStreamSynchronize(copies()), "copying");
  }
  void fill(void* to, std::uint8_t value, std::size_t bytes) override {
    if (!bytes) return;
    check(cudaMemsetAsync(to, value, bytes, copies()), "filling");
    check(cudaStreamSynchronize(copies()), "filling");
  }
  std::unique_ptr<Queue> make_queue() override { return std::make_unique<CudaQueue>(); }

  std::int64_t first_different_row(const void* is, const void* should, const std::int64_t* index, std::int64_t num_rows,
                                   std::int64_t row_bytes) override {
    const DeviceBytes first = allocate(sizeof(unsigned long long));
    unsigned long long found = ~0ull;
    copy(first.get(), &found, sizeof found);
    auto* word = reinterpret_cast<unsigned long long*>(first.get());
    check(cuda::find_difference(is, should, index, num_rows, row_bytes, word, copies()), "launching a comparison");
    copy(&found, word, sizeof found);
    return static_cast<std::int64_t>(found);
  }
  std::vector<Limit> limits(int num_ranks) override { return cuda::measure_limits(devices_of(num_ranks)); }
  double link_gbps(int num_ranks) override {
    double& best = links_[num_ranks];
    if (best > 0 || num_ranks < 2) return best;
    for (const cuda::Method method : {cuda::Method::push, cuda::Method::bulk})
      for (const int blocks : {8, 64, 132}) best = std::max(best, cuda::rate(devices_of(num_ranks), method, blocks));
    return best;
  }

 private:
  std::vector<int> devices_of(int num_ranks) const {
    std::vector<int> some;
    for (int r = 0; r < num_ranks && r < static_cast<int>(devices_.size()); ++r) some.push_back(device_of(r));
    return some;
  }
  /// The stream for copies of the current device.
  cudaStream_t copies() {
    int device = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    const std::lock_guard lock(mutex_);
    cudaStream_t& stream = copies_[device];
    if (!stream) check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
    return stream;
  }

  std::vector<int> devices_;
  std::mutex mutex_;
  std::map<int, cudaStream_t> copies_;  // live as long as the process
  std::map<int, double> links_;
};

}  // namespace

std::shared_ptr<Machine> open_gpu_machine(BackendKind kind, const std::vector<int>& devices) {
  return kind == BackendKind::cuda ? std::make_shared<CudaMachine>(devices) : nullptr;
}

}  // namespace crossdock::tools
