// SPDX-License-Identifier: Apache-2.0
// GPUs of one vendor as a machine of tools. Copies go on the device's side stream, so that they never wait for kernels of ranks.
#pragma once

#include <algorithm>
#include <map>
#include <utility>

#include "command/failures.hpp"
#include "gpu/limits.hpp"
#include "machine/machine.hpp"

namespace crossdock::tools::gpu {

template <class R>
class GpuQueue : public Queue {
 public:
  GpuQueue() : stream_(Streams<R>::of_ranks().take()) {}
  ~GpuQueue() override {
    if (graph_) (void)R::GraphExecDestroy(graph_);
    for (const auto event : marks_) (void)R::EventDestroy(event);
    Streams<R>::of_ranks().restore_device(stream_);
  }
  StreamHandle handle() override { return stream_; }
  void synchronize() override { check<R>(R::StreamSynchronize(stream_), "waiting for a stream"); }
  void begin_capture() override { check<R>(R::StreamBeginCapture(stream_, R::kCaptureMode), "beginning a capture"); }
  void end_capture() override {
    typename R::Graph captured = nullptr;
    check<R>(R::StreamEndCapture(stream_, &captured), "ending a capture");
    if (graph_) check<R>(R::GraphExecDestroy(std::exchange(graph_, nullptr)), "destroying a graph");
    const auto error = R::GraphInstantiateWithFlags(&graph_, captured, 0);
    (void)R::GraphDestroy(captured);
    check<R>(error, "instantiating a graph");
    check<R>(R::upload(graph_, stream_), "uploading a graph");
    synchronize();
  }
  void replay() override { check<R>(R::GraphLaunch(graph_, stream_), "launching a graph"); }
  void mark(int idx) override {
    while (marks_.size() <= static_cast<std::size_t>(idx)) check<R>(R::EventCreate(&marks_.emplace_back()), "an event");
    check<R>(R::record(marks_[static_cast<std::size_t>(idx)], stream_), "recording an event");
  }
  double us_between(int first, int last) override {
    float ms = 0;
    check<R>(R::EventElapsedTime(&ms, marks_.at(first), marks_.at(last)), "reading events");
    return static_cast<double>(ms) * 1e3;
  }

 private:
  typename R::Stream stream_;
  typename R::GraphExec graph_ = nullptr;
  std::vector<typename R::Event> marks_;
};

template <class R>
class GpuMachine : public Machine {
 public:
  explicit GpuMachine(const std::vector<int>& devices) : devices_(devices) {
    const std::string backend = "backend " + std::string(name_of(R::kKind)) + ": ";
    if (const std::string problem = R::problem(); !problem.empty()) throw BadInput(backend + problem + "; choose cpu");
    int count = 0;
    const auto error = R::GetDeviceCount(&count);
    if (error != typename R::Error{} || count == 0)
      throw BadInput(backend +
                     (count == 0 && error == typename R::Error{} ? "there is no device" : R::GetErrorString(error)) +
                     "; choose cpu");
    for (const int device : devices_)
      if (device < 0 || device >= count)
        throw BadInput("--devices: there is no device " + std::to_string(device) + "; there are 0 to " +
                       std::to_string(count - 1) + ", as " + R::kVisible + " numbers them");
    for (int device = 0; devices.empty() && device < count; ++device) devices_.push_back(device);
  }

  BackendKind kind() const override { return R::kKind; }
  std::string host() const override { return std::to_string(devices_.size()) + "x " + R::name_of(devices_[0]); }
  std::string driver() const override { return R::driver(); }
  int device_of(int rank) const override { return devices_[static_cast<std::size_t>(rank) % devices_.size()]; }
  void use(int rank) override {
    check<R>(R::SetDevice(device_of(rank)), "choosing a device");
    (void)side_stream<R>();  // before any rank's kernel runs
  }

  DeviceBytes allocate(std::size_t bytes) override {
    const auto stream = side_stream<R>();
    void* data = nullptr;
    check<R>(R::MallocAsync(&data, std::max<std::size_t>(bytes, 16), stream),
             ("allocating " + std::to_string(bytes) + " bytes on the device").c_str());
    check<R>(R::StreamSynchronize(stream), "allocating");
    return DeviceBytes(static_cast<std::byte*>(data), [stream](std::byte* p) { (void)R::FreeAsync(p, stream); });
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (!bytes) return;
    check<R>(R::MemcpyAsync(to, from, bytes, R::kCopy, side_stream<R>()), "copying");
    check<R>(R::StreamSynchronize(side_stream<R>()), "copying");
  }
  void fill(void* to, std::uint8_t value, std::size_t bytes) override {
    if (!bytes) return;
    check<R>(R::MemsetAsync(to, value, bytes, side_stream<R>()), "filling");
    check<R>(R::StreamSynchronize(side_stream<R>()), "filling");
  }
  std::unique_ptr<Queue> make_queue() override { return std::make_unique<GpuQueue<R>>(); }

  std::int64_t first_different_row(const void* is, const void* should, const std::int64_t* index, std::int64_t num_rows,
                                   std::int64_t row_bytes) override {
    constexpr int kBlocks = 1024;
    std::uint64_t found = ~std::uint64_t{0};
    const DeviceBytes first = allocate(sizeof found);
    copy(first.get(), &found, sizeof found);
    const Search search{is, should, index, num_rows, row_bytes, reinterpret_cast<std::uint64_t*>(first.get())};
    const Kernel kernel = row_bytes % sizeof(std::uint64_t) == 0 ? Kernel::find_words : Kernel::find_bytes;
    check<R>(R::launch(kernel, kBlocks, kSearchThreads, side_stream<R>(), &search), "launching a comparison");
    copy(&found, first.get(), sizeof found);
    return static_cast<std::int64_t>(found);
  }
  std::vector<Limit> limits(int num_ranks) override { return measure_limits<R>(devices_of(num_ranks)); }
  double link_gbps(int num_ranks) override {
    double& best = links_[num_ranks];
    if (best == 0) best = best_push<R>(devices_of(num_ranks));
    return best;
  }
  double pattern_gbps(const Traffic& bytes) override { return pattern_push<R>(devices_of(bytes.num_ranks()), bytes); }
  double signal_us(int num_ranks) override { return gpu::signal_us<R>(devices_of(num_ranks)); }

 private:
  std::vector<int> devices_of(int num_ranks) const {
    std::vector<int> some;
    for (int r = 0; r < num_ranks && r < static_cast<int>(devices_.size()); ++r) some.push_back(device_of(r));
    return some;
  }
  std::vector<int> devices_;
  std::map<int, double> links_;
};

template <class R>
std::shared_ptr<Machine> open(const std::vector<int>& devices) {
  return std::make_shared<GpuMachine<R>>(devices);
}

}  // namespace crossdock::tools::gpu
