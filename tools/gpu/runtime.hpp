// SPDX-License-Identifier: Apache-2.0
// What the tools ask of a vendor's runtime. Most functions of CUDA and HIP differ by their first letters only and are
// members of the struct `Runtime` of either folder by the rest of their name; for what differs in more, Runtime has a
// function of its own, the same in both.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "gpu/kernels.hpp"
#include "machine/machine.hpp"

#define XD_RUNTIME_FUNCTIONS(X)   \
  X(GetDeviceCount)               \
  X(GetDevice)                    \
  X(SetDevice)                    \
  X(DeviceEnablePeerAccess)       \
  X(DeviceGetDefaultMemPool)      \
  X(DeviceGetStreamPriorityRange) \
  X(DeviceSynchronize)            \
  X(GetLastError)                 \
  X(PeekAtLastError)              \
  X(GetErrorString)               \
  X(Free)                         \
  X(FreeAsync)                    \
  X(MemPoolTrimTo)                \
  X(MemPoolSetAttribute)          \
  X(MemGetInfo)                   \
  X(MemcpyAsync)                  \
  X(MemcpyPeerAsync)              \
  X(MemsetAsync)                  \
  X(StreamCreateWithFlags)        \
  X(StreamCreateWithPriority)     \
  X(StreamDestroy)                \
  X(StreamSynchronize)            \
  X(StreamBeginCapture)           \
  X(StreamEndCapture)             \
  X(LaunchHostFunc)               \
  X(GraphGetNodes)                \
  X(GraphInstantiateWithFlags)    \
  X(GraphLaunch)                  \
  X(GraphDestroy)                 \
  X(GraphExecDestroy)             \
  X(EventCreate)                  \
  X(EventDestroy)                 \
  X(EventRecord)                  \
  X(EventElapsedTime)

namespace crossdock::tools::gpu {

/// Throws "<what> failed: <text>" and leaves no sticky error behind.
template <class R>
void check(typename R::Error error, const char* what) {
  if (error == typename R::Error{}) return;  // 0 is success
  (void)R::GetLastError();
  throw std::runtime_error(std::string(what) + " failed: " + R::GetErrorString(error));
}

/// The stream of the current device for allocations and copies, past the kernels of ranks: of another priority than theirs, so
/// that no hardware queue is shared. Else a rank may copy behind a kernel that waits for the kernel which this rank launches
/// next. What is freed there stays in the pool: to unmap memory may wait for kernels, of which one may wait for the rank that frees.
///
/// Made at the first call, which comes before any kernel that waits: on H200 the making of a stream may itself wait for
/// kernels, and holds a lock of the driver meanwhile (bench/ladder/h200.md). It lives as long as the process.
template <class R>
typename R::Stream side_stream() {
  static std::mutex mutex;
  static std::map<int, typename R::Stream> streams;
  int device = 0;
  check<R>(R::GetDevice(&device), "asking for the current device");
  const std::lock_guard lock(mutex);
  auto& stream = streams[device];
  if (stream) return stream;
  typename R::MemPool pool{};
  std::uint64_t all = ~std::uint64_t{0};
  int least = 0, most = 0;
  check<R>(R::DeviceGetStreamPriorityRange(&least, &most), "reading stream priorities");
  check<R>(R::DeviceGetDefaultMemPool(&pool, device), "asking for the memory pool");
  check<R>(R::MemPoolSetAttribute(pool, R::kReleaseThreshold, &all), "keeping memory in the pool");
  check<R>(R::StreamCreateWithPriority(&stream, R::kNonBlocking, most), "creating a stream");
  return stream;
}

/// Streams for the calls of ranks. One that is given back goes to the next rank that asks: hardware queues are taken in turn as
/// streams are made, so with ever new ones two ranks would share a queue, and wait in it for one another.
template <class R>
class Streams {
 public:
  static Streams& of_ranks() {
    static Streams all;
    return all;
  }
  /// Of the current device.
  typename R::Stream take() {
    int device = 0;
    check<R>(R::GetDevice(&device), "asking for the current device");
    const std::lock_guard lock(mutex_);
    std::vector<typename R::Stream>& idle = idle_[device];
    typename R::Stream stream{};
    if (idle.empty()) {
      check<R>(R::StreamCreateWithFlags(&stream, R::kNonBlocking), "creating a stream");
    } else {
      stream = idle.back();
      idle.pop_back();
    }
    device_of_[stream] = device;
    return stream;
  }
  void restore_device(typename R::Stream stream) {
    const std::lock_guard lock(mutex_);
    idle_[device_of_.at(stream)].push_back(stream);
  }

 private:
  std::mutex mutex_;
  std::map<int, std::vector<typename R::Stream>> idle_;  // live as long as the process
  std::map<typename R::Stream, int> device_of_;
};

/// A stream for the calls of a rank, or for measurements, of the device that is current when it is made.
template <class R>
class GpuQueue : public Queue {
 public:
  GpuQueue() : stream_(Streams<R>::of_ranks().take()) {}
  ~GpuQueue() override {
    if (graph_) (void)R::GraphExecDestroy(graph_);
    for (const auto event : marks_) (void)R::EventDestroy(event);
    Streams<R>::of_ranks().restore_device(stream_);
  }
  typename R::Stream stream() const { return stream_; }
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

}  // namespace crossdock::tools::gpu
