// SPDX-License-Identifier: Apache-2.0
// What the links between GPUs can do, whatever library asks them: rates by method and number of blocks, latencies.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "gpu/methods.hpp"
#include "gpu/runtime.hpp"
#include "machine/machine.hpp"
#include "machine/times.hpp"
#include "machine/traffic.hpp"

namespace crossdock::tools::gpu {

/// 84 MiB, four times: past the caches.
inline constexpr Work kFullWork{6144, 4, 2000};
static_assert(kShortRowBytes == kFloorRowBytes);

/// Devices with their memory, streams and clocks; peers can reach each other.
template <class R>
class Bed {
 public:
  using Stream = typename R::Stream;

  Bed(const std::vector<int>& devices, const Work& work) : devices_(devices) {
    all_.work = work;
    check<R>(R::GetDevice(&before_), "asking for the current device");
    check<R>(R::malloc_host(reinterpret_cast<void**>(&gate_), sizeof *gate_), "pinned memory");
    for (int d = 0; d < count(); ++d) {
      use(d);
      for (const int other : devices_)
        if (other != devices_[d] && R::DeviceEnablePeerAccess(other, 0) != typename R::Error{}) (void)R::GetLastError();
      for (void** data : memory_of(d))
        check<R>(R::malloc_for_peers(data, data == memory_of(d)[2] ? sizeof(Clock) : bytes()), "memory for --limits");
      queues_.push_back(std::make_unique<GpuQueue<R>>());
      check<R>(R::MemsetAsync(all_.from[d], d + 1, bytes(), stream(d)), "filling");
      queues_[d]->synchronize();
      check<R>(R::load_kernels(devices_[d]), "loading kernels");
    }
  }
  ~Bed() {
    for (int d = 0; d < count(); ++d) {
      (void)R::SetDevice(devices_[d]);
      queues_[d].reset();
      for (void** data : memory_of(d)) (void)R::Free(*data);
    }
    (void)R::free_host(gate_);
    (void)R::SetDevice(before_);
  }
  Bed(const Bed&) = delete;
  Bed& operator=(const Bed&) = delete;

  int count() const { return static_cast<int>(devices_.size()); }
  const Work& work() const { return all_.work; }
  std::size_t bytes() const { return static_cast<std::size_t>(all_.work.rows) * kRowBytes; }

  /// Launches on all devices, opens the gate; the slowest device's time.
  template <class Launch>
  double slowest_us(Launch launch) {
    *gate_ = 0;
    for (int d = 0; d < count(); ++d) {
      const Clock fresh{~std::uint64_t{0}, 0};
      use(d);
      check<R>(R::MemsetAsync(all_.to[d], 0, kMaxDevices * sizeof(std::uint64_t), stream(d)), "preparing");
      check<R>(R::MemcpyAsync(clocks_[d], &fresh, sizeof fresh, R::kCopy, stream(d)), "preparing");
      check<R>(R::DeviceSynchronize(), "preparing");
    }
    for (int d = 0; d < count(); ++d) {
      use(d);
      launch(site_of(d), stream(d));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // all are at the gate
    *static_cast<volatile std::uint64_t*>(gate_) = 1;
    std::uint64_t slowest = 0;
    for (int d = 0; d < count(); ++d) {
      Clock clock{};
      queues_[d]->synchronize();
      check<R>(R::MemcpyAsync(&clock, clocks_[d], sizeof clock, R::kCopy, stream(d)), "reading a clock");
      queues_[d]->synchronize();
      slowest = std::max(slowest, clock.end - clock.begin);
    }
    return static_cast<double>(slowest) / 1e3;
  }

  /// µs of a kernel of one block that exchanges words.
  double words_us(Kernel kernel) {
    return slowest_us([&](const Site& site, Stream stream) {
      check<R>(R::launch(kernel, 1, R::kWidth, stream, &site), "launching a measurement");
    });
  }

  double gbps(const Method& method, int blocks) {
    const double us = best_us([&](const Site& site, Stream stream) {
      check<R>(static_cast<typename R::Error>(method.launch(site, blocks, stream)), method.what);
    });
    return static_cast<double>(bytes()) * work().passes / us / 1e3;
  }

  /// Through the busier direction of the busiest device, while every device sends every other one its rows.
  double gbps(const Traffic& rows, int blocks) {
    const double us = best_us([&](const Site& site, Stream stream) {
      Pattern pattern{site, {}};
      for (int d = 0; d < count(); ++d) pattern.rows_to[d] = static_cast<int>(rows.at(site.me, d));
      check<R>(R::launch(Kernel::push_pattern, blocks, kMoveThreads, stream, &pattern), "launching a measurement");
    });
    return static_cast<double>(rows.busiest()) * kRowBytes / us / 1e3;
  }

  /// Copy engines: every device to its next one, or to all others at once.
  double copy_engines(bool to_all) {
    constexpr int kSizeOfRing = 2;
    std::vector<Stream> streams(static_cast<std::size_t>(count()) * kMaxDevices);
    for (std::size_t i = 0; i < streams.size(); ++i) {
      use(static_cast<int>(i) / kMaxDevices);
      check<R>(R::StreamCreateWithFlags(&streams[i], R::kNonBlocking), "creating a stream");
    }
    const auto copy = [&] {
      for (int pass = 0; pass < work().passes; ++pass)
        for (int d = 0; d < count(); ++d)
          for (int step = 1; step < (to_all ? count() : kSizeOfRing); ++step) {
            const std::size_t part = to_all ? bytes() / (count() - 1) : bytes();
            const int other = (d + step) % count();
            check<R>(R::MemcpyPeerAsync(all_.to[other] + (step - 1) * part, devices_[other], all_.from[d], devices_[d],
                                        part, streams[d * kMaxDevices + step]),
                     "copying to a peer");
          }
      for (const Stream stream : streams) check<R>(R::StreamSynchronize(stream), "copying to a peer");
    };
    copy();
    const auto began = SteadyClock::now();
    copy();
    const double us = us_since(began);
    for (const Stream stream : streams) (void)R::StreamDestroy(stream);
    return static_cast<double>(bytes()) * work().passes / us / 1e3;
  }

  /// A graph of kernels in each of which all devices meet once: µs each, of the slowest device, median. Behind one gate, so
  /// that no device waits for the host.
  double meeting_kernel_us() {
    constexpr int kKernels = 20, kReplays = 21;
    for (int d = 0; d < count(); ++d) record(d, kKernels, Kernel::one_barrier, site_of(d));
    std::vector<double> us;
    for (int i = 0; i < kReplays; ++i) {
      slowest_us([&](Site site, Stream stream) {
        site.work.rounds = 1;
        check<R>(R::launch(Kernel::barriers, 1, R::kWidth, stream, &site), "launching a measurement");
        replay(site.me);
      });
      double slowest = 0;
      for (int d = 0; d < count(); ++d) slowest = std::max(slowest, us_of_graph(d));
      us.push_back(slowest / kKernels);
    }
    return median(us);
  }

  /// A graph of empty kernels on the first device, µs each.
  double empty_kernel_us() {
    constexpr int kKernels = 200;
    record(0, kKernels, Kernel::nothing, Nothing{});
    for (int i = 0; i < 2; ++i) {  // the first warms up
      replay(0);
      queues_[0]->synchronize();
    }
    return us_of_graph(0) / kKernels;
  }

  /// What an empty kernel costs the thread that launches it, µs, median; the queue is never full. `marked`: with an event behind
  /// it, as every eager call of the library has one.
  double host_us(bool marked) {
    constexpr int kRounds = 51, kLaunches = 20;
    const Nothing nothing;
    typename R::Event mark{};
    std::vector<double> us;
    use(0);
    check<R>(R::EventCreate(&mark), "an event");
    for (int i = 0; i < kRounds; ++i) {
      const auto began = SteadyClock::now();
      for (int k = 0; k < kLaunches; ++k) {
        check<R>(R::launch(Kernel::nothing, 1, R::kWidth, stream(0), &nothing), "launching a measurement");
        if (marked) check<R>(R::EventRecord(mark, stream(0)), "an event");
      }
      us.push_back(us_since(began) / kLaunches);
      queues_[0]->synchronize();
    }
    (void)R::EventDestroy(mark);
    return median(us);
  }

 private:
  template <class Launch>
  double best_us(Launch launch) {
    double best = 1e30;
    for (int i = 0; i < 3; ++i) best = std::min(best, slowest_us(launch));
    return best;
  }

  /// Records a graph of the same kernel many times; us_of_graph() is of its last replay between marks.
  template <class Arguments>
  void record(int d, int kernels, Kernel kernel, const Arguments& arguments) {
    use(d);
    queues_[d]->begin_capture();
    for (int i = 0; i < kernels; ++i) check<R>(R::launch(kernel, 1, R::kWidth, stream(d), &arguments), "capturing");
    queues_[d]->end_capture();
  }
  void replay(int d) {
    queues_[d]->mark(0);
    queues_[d]->replay();
    queues_[d]->mark(1);
  }
  double us_of_graph(int d) { return queues_[d]->us_between(0, 1); }

  Site site_of(int d) const {
    Site site = all_;
    site.clock = clocks_[d];
    site.gate = gate_;
    site.me = d;
    site.count = count();
    return site;
  }
  Stream stream(int d) const { return queues_[d]->stream(); }
  void use(int d) { check<R>(R::SetDevice(devices_[d]), "choosing a device"); }
  std::array<void**, 3> memory_of(int d) {
    return {reinterpret_cast<void**>(&all_.from[d]), reinterpret_cast<void**>(&all_.to[d]),
            reinterpret_cast<void**>(&clocks_[d])};
  }

  std::vector<int> devices_;
  std::vector<std::unique_ptr<GpuQueue<R>>> queues_;
  Site all_{};
  Clock* clocks_[kMaxDevices] = {};
  std::uint64_t* gate_ = nullptr;
  int before_ = 0;
};

template <class R>
std::vector<Method> methods_of(int device) {
  const auto launch_of = [](Kernel kernel) {
    return [kernel](const Site& site, int blocks, StreamHandle stream) -> int {
      return R::launch(kernel, blocks, kMoveThreads, static_cast<typename R::Stream>(stream), &site);
    };
  };
  std::vector<Method> all = {
      {"push_store", "push, 16-byte stores", true, kRowBytes, launch_of(Kernel::push)},
      {"push_store", "push, 16-byte stores", true, kShortRowBytes, launch_of(Kernel::push_short)},
      {"pull_load", "pull, 16-byte loads", false, kRowBytes, launch_of(Kernel::pull)}};
  for (Method& method : R::own_methods(device)) all.push_back(std::move(method));
  return all;
}

/// Numbers of blocks among which one is near the best.
template <class R>
std::array<int, 3> some_blocks(int device) {
  return {8, 64, R::num_sms(device)};
}

/// GB/s out of each device at its best, all devices at once, to all others in turn.
template <class R>
double best_push(const std::vector<int>& devices, const Work& work = kFullWork) {
  if (devices.size() < 2) return 0;
  double best = 0;
  Bed<R> bed(devices, work);
  for (const Method& method : methods_of<R>(devices[0]))
    for (const int blocks : some_blocks<R>(devices[0]))
      if (method.pushes && method.row_bytes == kRowBytes) best = std::max(best, bed.gbps(method, blocks));
  return best;
}

/// GB/s through the busier direction of the busiest device, at its best, while all send one another shares of these bytes. 0:
/// nothing crosses, or not all ranks have a device of their own.
template <class R>
double pattern_push(const std::vector<int>& devices, const Traffic& bytes, const Work& work = kFullWork) {
  if (static_cast<int>(devices.size()) != bytes.num_ranks() || bytes.busiest() == 0) return 0;
  const Traffic rows = bytes.scaled(std::int64_t{work.rows} * work.passes);
  double best = 0;
  Bed<R> bed(devices, work);
  for (const int blocks : some_blocks<R>(devices[0])) best = std::max(best, bed.gbps(rows, blocks));
  return best;
}

/// An empty kernel and a barrier of all devices inside a kernel: the least that a call between them can take, for a few bytes. Less
/// than a kernel that holds a barrier, `meeting_kernel_us`: on two H200 1.91 and 2.56 µs (2026-11-23).
template <class R>
double signal_us(const std::vector<int>& devices, const Work& work = kFullWork) {
  if (devices.size() < 2) return 0;
  Bed<R> bed(devices, work);
  return bed.empty_kernel_us() + bed.words_us(Kernel::barriers) / work.rounds;
}

/// All lines of `crossdock bench --limits` for ranks on these devices.
template <class R>
std::vector<Limit> measure_limits(const std::vector<int>& devices, const Work& work = kFullWork) {
  std::vector<Limit> limits;
  Bed<R> bed(devices, work);
  const int n = bed.count();
  limits.push_back({"empty_kernel", "graph of empty kernels, each", n, 1, 0, 0, bed.empty_kernel_us()});
  limits.push_back({"host_launch", "a launch, of the host's time", n, 1, 0, 0, bed.host_us(false)});
  limits.push_back({"host_marked_launch", "a launch and an event, of the host's time", n, 1, 0, 0, bed.host_us(true)});
  if (n < 2) return limits;
  for (const Method& method : methods_of<R>(devices[0]))
    for (const int blocks : {8, 16, 32, 64, R::num_sms(devices[0])}) {
      const std::string rows = method.row_bytes == kRowBytes ? "" : ", rows of " + std::to_string(method.row_bytes);
      limits.push_back({method.key,
                        std::string(method.what) + rows + ", all others in turn, " + std::to_string(blocks) + " blocks",
                        n, blocks, method.row_bytes, bed.gbps(method, blocks)});
    }
  limits.push_back({"copy_engines_ring", "copy engines, ring", n, 0, 0, bed.copy_engines(false)});
  limits.push_back({"copy_engines_all", "copy engines, all others at once", n, 0, 0, bed.copy_engines(true)});
  limits.push_back({"barrier", "barrier inside a kernel", n, 1, 0, 0, bed.words_us(Kernel::barriers) / work.rounds});
  limits.push_back(
      {std::string(kMeetingKernel), "graph of kernels with one barrier, each", n, 1, 0, 0, bed.meeting_kernel_us()});
  Bed<R> two({devices[0], devices[1]}, work);
  limits.push_back({"flag", "flag one way", 2, 1, 0, 0, two.words_us(Kernel::ping_pong) / work.rounds / 2});
  return limits;
}

}  // namespace crossdock::tools::gpu
