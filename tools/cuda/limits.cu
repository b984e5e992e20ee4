// SPDX-License-Identifier: Apache-2.0
// All devices begin together, behind a gate in host memory that opens when every kernel has been launched; a device's time
// runs from its first block past the gate to its last block done, by its own clock.
#include "cuda/limits.hpp"

#include <algorithm>
#include <chrono>
#include <thread>

#include "cuda/check.hpp"

namespace crossdock::tools::cuda {
namespace {

constexpr int kRowBytes = 14336, kRows = 6144, kPasses = 4;  // 84 MiB, four times: past the caches
constexpr int kThreads = 512, kStages = 8, kMostDevices = 8;
constexpr int kRounds = 2000, kSizeOfRing = 2;

struct Clock {
  unsigned long long begin, end;
};

/// One device's part of a measurement.
struct Site {
  std::byte* from[kMostDevices];  // of every device
  std::byte* to[kMostDevices];
  Clock* clock;
  volatile int* gate;
  int me, count;
};

__device__ unsigned long long now_ns() {
  unsigned long long ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

__device__ void pass_gate(const Site& site) {
  if (threadIdx.x == 0) {
    while (*site.gate == 0) __nanosleep(100);
    atomicMin(&site.clock->begin, now_ns());
  }
  __syncthreads();
}

__device__ void leave(const Site& site) {
  __threadfence_system();  // what was stored has arrived
  __syncthreads();
  if (threadIdx.x == 0) atomicMax(&site.clock->end, now_ns());
}

/// The device that row `row` goes to or comes from: each row of a device has one writer.
__device__ int peer_of(const Site& site, int row) {
  return site.count == 1 ? 0 : (site.me + 1 + row % (site.count - 1)) % site.count;
}

template <bool kPull>
__global__ void __launch_bounds__(kThreads, 1) by_threads(Site site) {
  constexpr int kUnits = kRowBytes / 16, kInFlight = 4;
  pass_gate(site);
  const int warps = gridDim.x * kThreads / 32, warp = blockIdx.x * (kThreads / 32) + threadIdx.x / 32,
            lane = threadIdx.x % 32;
  for (int pass = 0; pass < kPasses; ++pass)
    for (int row = warp; row < kRows; row += warps) {
      const int peer = peer_of(site, row);
      const std::int64_t at = std::int64_t{row} * kRowBytes;
      const uint4* from = reinterpret_cast<const uint4*>(site.from[kPull ? peer : site.me] + at);
      uint4* to = reinterpret_cast<uint4*>(site.to[kPull ? site.me : peer] + at);
      for (int unit = lane; unit < kUnits; unit += 32 * kInFlight) {
        uint4 v[kInFlight];
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) v[i] = __ldcs(from + unit + 32 * i);
#pragma unroll
        for (int i = 0; i < kInFlight; ++i) __stcs(to + unit + 32 * i, v[i]);
      }
    }
  leave(site);
}
static_assert(kRowBytes / 16 % (32 * 4) == 0, "by_threads has no tail");

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define XD_HAS_BULK 1
#endif

/// Blocks of one thread, which moves rows through shared memory by the copy unit of the multiprocessor: half of the stages are
/// being loaded, the others stored.
template <bool kPull>
__global__ void __launch_bounds__(1, 1) by_bulk_copies(Site site) {
#ifdef XD_HAS_BULK
  constexpr int kAhead = kStages / 2;
  alignas(128) extern __shared__ unsigned char rows[];
  alignas(8) __shared__ std::uint64_t full[kStages];
  pass_gate(site);
  const auto address = [](const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); };
  for (int s = 0; s < kStages; ++s) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(full + s)));
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  const int all = kPasses * kRows, blocks = gridDim.x;
  const int mine = (all - static_cast<int>(blockIdx.x) + blocks - 1) / blocks;
  const auto row_of = [&](int i) { return (static_cast<int>(blockIdx.x) + i * blocks) % kRows; };
  const auto load = [&](int i) {
    const int row = row_of(i), stage = i % kStages;
    const std::byte* from = site.from[kPull ? peer_of(site, row) : site.me] + std::int64_t{row} * kRowBytes;
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(full + stage)), "r"(kRowBytes)
                 : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     address(rows + stage * kRowBytes)),
                 "l"(__cvta_generic_to_global(from)), "r"(kRowBytes), "r"(address(full + stage))
                 : "memory");
  };
  for (int i = 0; i < kAhead && i < mine; ++i) load(i);
  for (int i = 0; i < mine; ++i) {
    const int row = row_of(i), stage = i % kStages;
    unsigned ready = 0;
    while (!ready)
      asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                   : "=r"(ready)
                   : "r"(address(full + stage)), "r"(i / kStages & 1)
                   : "memory");
    std::byte* to = site.to[kPull ? site.me : peer_of(site, row)] + std::int64_t{row} * kRowBytes;
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(to)),
                 "r"(address(rows + stage * kRowBytes)), "r"(kRowBytes)
                 : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    // the stage of row i + kAhead was stored from kStages - kAhead groups ago
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kStages - kAhead) : "memory");
    if (i + kAhead < mine) load(i + kAhead);
  }
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
  leave(site);
#endif
}

/// Word [source] of device `to`.
__device__ std::uint64_t* word_of(const Site& site, int to, int source) {
  return reinterpret_cast<std::uint64_t*>(site.to[to]) + source;
}
__device__ void tell(std::uint64_t* word, std::uint64_t value) {
  asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}
__device__ void await(const std::uint64_t* word, std::uint64_t value) {
  std::uint64_t seen;
  do asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(seen) : "l"(word) : "memory");
  while (seen < value);
}

/// A word to the other device and one back.
__global__ void ping_pong(Site site) {
  pass_gate(site);
  for (int round = 1; round <= kRounds; ++round) {
    if (site.me == 1) await(word_of(site, 1, 0), round);
    tell(word_of(site, 1 - site.me, site.me), round);
    if (site.me == 0) await(word_of(site, 0, 1), round);
  }
  leave(site);
}

/// Every device tells every other and waits for all.
__global__ void barriers(Site site) {
  pass_gate(site);
  for (int round = 1; round <= kRounds; ++round) {
    if (threadIdx.x < static_cast<unsigned>(site.count)) {
      tell(word_of(site, threadIdx.x, site.me), round);
      await(word_of(site, site.me, threadIdx.x), round);
    }
    __syncthreads();
  }
  leave(site);
}

__global__ void nothing() {}

bool has_bulk(int device) {
  int major = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "cudaDeviceGetAttribute");
  return major >= 9;
}

/// On the current device, before any runs: the first launch of a kernel takes memory that peers map, and waits for theirs.
void load_kernels(int device) {
  const auto load = [](auto* kernel) {
    cudaFuncAttributes ignored{};
    check(cudaFuncGetAttributes(&ignored, kernel), "loading a kernel");
  };
  load(by_threads<false>), load(by_threads<true>), load(ping_pong), load(barriers), load(nothing);
  if (!has_bulk(device)) return;
  for (auto* kernel : {by_bulk_copies<false>, by_bulk_copies<true>})
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kStages * kRowBytes),
          "asking for shared memory");
}

/// Devices with their memory, streams and clocks; peers can reach each other.
class Bed {
 public:
  explicit Bed(const std::vector<int>& devices) : devices_(devices), streams_(devices.size()) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    check(cudaHostAlloc(&gate_, sizeof(int), cudaHostAllocMapped | cudaHostAllocPortable), "pinned memory");
    for (int d = 0; d < count(); ++d) {
      check(cudaSetDevice(devices_[d]), "cudaSetDevice");
      for (const int other : devices_)
        if (other != devices_[d] && cudaDeviceEnablePeerAccess(other, 0) != cudaSuccess) (void)cudaGetLastError();
      check(cudaMalloc(&all_.from[d], std::size_t{kRows} * kRowBytes), "memory for --limits");
      check(cudaMalloc(&all_.to[d], std::size_t{kRows} * kRowBytes), "memory for --limits");
      check(cudaMalloc(&clocks_[d], sizeof(Clock)), "memory for --limits");
      check(cudaMemset(all_.from[d], d + 1, std::size_t{kRows} * kRowBytes), "cudaMemset");
      check(cudaStreamCreateWithFlags(&streams_[d], cudaStreamNonBlocking), "creating a stream");
      load_kernels(devices_[d]);
    }
  }
  ~Bed() {
    for (int d = 0; d < count(); ++d) {
      cudaSetDevice(devices_[d]);
      cudaStreamDestroy(streams_[d]);
      for (void* memory :
           {static_cast<void*>(all_.from[d]), static_cast<void*>(all_.to[d]), static_cast<void*>(clocks_[d])})
        cudaFree(memory);
    }
    cudaFreeHost(gate_);
    cudaSetDevice(before_);
  }
  int count() const { return static_cast<int>(devices_.size()); }

  /// Launches on all devices, opens the gate; the slowest device's time.
  template <class Launch>
  double slowest_us(Launch launch) {
    *gate_ = 0;
    for (int d = 0; d < count(); ++d) {
      const Clock fresh{~0ull, 0};
      check(cudaSetDevice(devices_[d]), "cudaSetDevice");
      check(cudaMemset(all_.to[d], 0, kMostDevices * sizeof(std::uint64_t)), "cudaMemset");
      check(cudaMemcpy(clocks_[d], &fresh, sizeof fresh, cudaMemcpyDefault), "cudaMemcpy");
      check(cudaDeviceSynchronize(), "preparing");
    }
    for (int d = 0; d < count(); ++d) {
      check(cudaSetDevice(devices_[d]), "cudaSetDevice");
      Site site = all_;
      site.clock = clocks_[d];
      site.gate = gate_;
      site.me = d;
      site.count = count();
      launch(site, streams_[d]);
      check(cudaGetLastError(), "launching a measurement");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // all are at the gate
    *static_cast<volatile int*>(gate_) = 1;
    unsigned long long slowest = 0;
    for (int d = 0; d < count(); ++d) {
      Clock clock{};
      check(cudaStreamSynchronize(streams_[d]), "measuring");
      check(cudaMemcpy(&clock, clocks_[d], sizeof clock, cudaMemcpyDefault), "cudaMemcpy");
      slowest = std::max(slowest, clock.end - clock.begin);
    }
    return static_cast<double>(slowest) / 1e3;
  }

  /// Copy engines: every device to its next one, or to all others at once.
  double copy_engines(bool to_all) {
    constexpr std::size_t kBytes = std::size_t{kRows} * kRowBytes;
    std::vector<cudaStream_t> streams(static_cast<std::size_t>(count()) * kMostDevices);
    for (std::size_t i = 0; i < streams.size(); ++i) {
      check(cudaSetDevice(devices_[i / kMostDevices]), "cudaSetDevice");
      check(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking), "creating a stream");
    }
    const auto copy = [&] {
      for (int pass = 0; pass < kPasses; ++pass)
        for (int d = 0; d < count(); ++d)
          for (int step = 1; step < (to_all ? count() : kSizeOfRing); ++step) {
            const std::size_t part = to_all ? kBytes / (count() - 1) : kBytes;
            const int other = (d + step) % count();
            check(cudaMemcpyPeerAsync(all_.to[other] + (step - 1) * part, devices_[other], all_.from[d], devices_[d],
                                      part, streams[d * kMostDevices + step]),
                  "copying to a peer");
          }
      for (const cudaStream_t stream : streams) check(cudaStreamSynchronize(stream), "copying to a peer");
    };
    copy();
    const auto began = std::chrono::steady_clock::now();
    copy();
    const std::chrono::duration<double, std::micro> us = std::chrono::steady_clock::now() - began;
    for (const cudaStream_t stream : streams) cudaStreamDestroy(stream);
    return static_cast<double>(kBytes) * kPasses / us.count() / 1e3;
  }

  /// A graph of empty kernels on the first device, µs each.
  double empty_kernel_us() {
    constexpr int kKernels = 200;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaEvent_t marks[2];
    check(cudaSetDevice(devices_[0]), "cudaSetDevice");
    check(cudaStreamBeginCapture(streams_[0], cudaStreamCaptureModeThreadLocal), "capturing");
    for (int i = 0; i < kKernels; ++i) nothing<<<1, 32, 0, streams_[0]>>>();
    check(cudaStreamEndCapture(streams_[0], &graph), "capturing");
    check(cudaGraphInstantiate(&exec, graph, 0), "instantiating");
    for (cudaEvent_t& mark : marks) check(cudaEventCreate(&mark), "an event");
    for (int i = 0; i < 2; ++i) {  // the first warms up
      check(cudaEventRecord(marks[0], streams_[0]), "an event");
      check(cudaGraphLaunch(exec, streams_[0]), "launching a graph");
      check(cudaEventRecord(marks[1], streams_[0]), "an event");
      check(cudaStreamSynchronize(streams_[0]), "launching a graph");
    }
    float ms = 0;
    check(cudaEventElapsedTime(&ms, marks[0], marks[1]), "an event");
    for (const cudaEvent_t mark : marks) cudaEventDestroy(mark);
    cudaGraphExecDestroy(exec);
    cudaGraphDestroy(graph);
    return static_cast<double>(ms) * 1e3 / kKernels;
  }

 private:
  std::vector<int> devices_;
  std::vector<cudaStream_t> streams_;
  Site all_{};
  Clock* clocks_[kMostDevices] = {};
  int* gate_ = nullptr;
  int before_ = 0;
};

double rate_on(Bed& bed, Method method, int blocks) {
  constexpr int kShared = kStages * kRowBytes;
  const auto launch = [&](const Site& site, cudaStream_t stream) {
    switch (method) {
      case Method::push:
        return by_threads<false><<<blocks, kThreads, 0, stream>>>(site);
      case Method::pull:
        return by_threads<true><<<blocks, kThreads, 0, stream>>>(site);
      case Method::bulk:
        return by_bulk_copies<false><<<blocks, 1, kShared, stream>>>(site);
      case Method::bulk_pull:
        return by_bulk_copies<true><<<blocks, 1, kShared, stream>>>(site);
    }
  };
  double best = 1e30;
  for (int i = 0; i < 3; ++i) best = std::min(best, bed.slowest_us(launch));
  return static_cast<double>(kRowBytes) * kRows * kPasses / best / 1e3;
}

}  // namespace

double rate(const std::vector<int>& devices, Method method, int blocks) {
  const bool bulk = method == Method::bulk || method == Method::bulk_pull;
  if (devices.size() < 2 || (bulk && !has_bulk(devices[0]))) return 0;
  Bed bed(devices);
  return rate_on(bed, method, blocks);
}

std::vector<Limit> measure_limits(const std::vector<int>& devices) {
  constexpr const char* kNames[] = {"push, 16-byte stores", "pull, 16-byte loads", "push, bulk copies",
                                    "pull, bulk copies"};
  std::vector<Limit> limits;
  Bed bed(devices);
  const auto add_us = [&](const char* what, double us) { limits.push_back({what, 0, us}); };
  add_us("graph of empty kernels, each", bed.empty_kernel_us());
  if (bed.count() < 2) return limits;
  for (int method = 0; method < 4; ++method)
    for (const int blocks : {8, 16, 32, 64, 132})
      if (method < 2 || has_bulk(devices[0]))
        limits.push_back({std::string(kNames[method]) + ", all others in turn, " + std::to_string(blocks) + " blocks",
                          rate_on(bed, static_cast<Method>(method), blocks)});
  limits.push_back({"copy engines, ring", bed.copy_engines(false)});
  limits.push_back({"copy engines, all others at once", bed.copy_engines(true)});
  add_us("barrier inside a kernel",
         bed.slowest_us([](const Site& site, cudaStream_t stream) { barriers<<<1, 32, 0, stream>>>(site); }) / kRounds);
  Bed two({devices[0], devices[1]});
  add_us("flag one way", two.slowest_us([](const Site& site, cudaStream_t stream) {
    ping_pong<<<1, 1, 0, stream>>>(site);
  }) / kRounds / 2);
  return limits;
}

}  // namespace crossdock::tools::cuda
