// SPDX-License-Identifier: Apache-2.0
#include "support/rank_memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <vector>

#include "crossdock/cpu_stream.hpp"
#include "support/cuda.hpp"
#include "support/hip.hpp"

namespace crossdock::testing {
namespace {

constexpr std::size_t kGuardBytes = 128;
constexpr std::uint8_t kGuard = 0xc5;

/// How a machine does what the rest of this file asks for.
struct Machine {
  std::shared_ptr<void> (*allocate)(std::size_t bytes);
  void (*fill)(void* to, std::uint8_t value, std::size_t bytes);
  void (*copy)(void* to, const void* from, std::size_t bytes);  // done when it returns
  void (*enqueue_copy)(void* to, const void* from, std::size_t bytes, StreamHandle stream);
  void (*synchronize)(StreamHandle stream);
  void (*use)(int rank);
};

constexpr Machine kCpu{
    [](std::size_t bytes) {
      constexpr std::align_val_t kAlign{64};
      return std::shared_ptr<void>(::operator new(bytes, kAlign), [](void* p) { ::operator delete(p, kAlign); });
    },
    [](void* to, std::uint8_t value, std::size_t bytes) { std::memset(to, value, bytes); },
    [](void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); },
    [](void* to, const void* from, std::size_t bytes, StreamHandle stream) {
      if (!stream)
        std::memcpy(to, from, bytes);
      else
        static_cast<CpuStream*>(stream)->enqueue([=] { std::memcpy(to, from, bytes); });
    },
    [](StreamHandle stream) {
      if (stream) static_cast<CpuStream*>(stream)->synchronize();
    },
    [](int) {}};

#ifdef CROSSDOCK_WITH_CUDA
cudaStream_t stream_or_own(StreamHandle stream) { return stream ? static_cast<cudaStream_t>(stream) : own_stream(); }

/// Allocations and frees in the order of a stream of each device that runs nothing else: cudaFree would wait for the kernels
/// of every rank on the device, of which one may wait for the rank that frees.
cudaStream_t stream_of_allocations() {
  static std::mutex mutex;
  static std::map<int, cudaStream_t> streams;  // as long as the process
  int device = 0;
  check(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  cudaStream_t& stream = streams[device];
  if (!stream) check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

constexpr Machine kCuda{
    [](std::size_t bytes) {
      void* data = nullptr;
      const cudaStream_t stream = stream_of_allocations();
      check(cudaMallocAsync(&data, bytes, stream));
      check(cudaStreamSynchronize(stream));
      return std::shared_ptr<void>(data, [stream](void* p) { cudaFreeAsync(p, stream); });
    },
    [](void* to, std::uint8_t value, std::size_t bytes) {
      check(cudaMemsetAsync(to, value, bytes, own_stream()));
      check(cudaStreamSynchronize(own_stream()));
    },
    [](void* to, const void* from, std::size_t bytes) {
      check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, own_stream()));
      check(cudaStreamSynchronize(own_stream()));
    },
    [](void* to, const void* from, std::size_t bytes, StreamHandle stream) {
      check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_or_own(stream)));
      if (!stream) check(cudaStreamSynchronize(own_stream()));
    },
    [](StreamHandle stream) { check(cudaStreamSynchronize(stream_or_own(stream))); },
    [](int rank) { check(cudaSetDevice(device_of(BackendKind::cuda, rank))); }};
#endif

#ifdef CROSSDOCK_WITH_HIP
constexpr Machine kHip{hip::allocate, hip::fill, hip::copy, hip::enqueue_copy, hip::synchronize, hip::use};
#endif

const Machine& machine(BackendKind backend) {
  if (backend == BackendKind::cpu) return kCpu;
#ifdef CROSSDOCK_WITH_CUDA
  if (backend == BackendKind::cuda) return kCuda;
#endif
#ifdef CROSSDOCK_WITH_HIP
  if (backend == BackendKind::hip) return kHip;
#endif
  throw std::logic_error("tests: no memory of backend " + std::string(name_of(backend)) + " in this build");
}

}  // namespace

#ifdef CROSSDOCK_WITH_CUDA
cudaStream_t own_stream() {
  struct Streams {
    std::map<int, cudaStream_t> by_device;
    ~Streams() {
      for (const auto& [device, stream] : by_device) cudaStreamDestroy(stream);
    }
  };
  thread_local Streams streams;
  int device = 0;
  check(cudaGetDevice(&device));
  cudaStream_t& stream = streams.by_device[device];
  if (!stream) check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}
#endif

BackendKind backend_of_tests() {
  const char* name = std::getenv("CROSSDOCK_BACKEND");
  for (const BackendKind kind : {BackendKind::cuda, BackendKind::hip})
    if (name && name_of(kind) == name) return kind;
  return BackendKind::cpu;
}

int device_of(BackendKind backend, int rank) {
  int count = 1;
#ifdef CROSSDOCK_WITH_CUDA
  if (backend == BackendKind::cuda) check(cudaGetDeviceCount(&count));
#endif
#ifdef CROSSDOCK_WITH_HIP
  if (backend == BackendKind::hip) count = hip::num_devices();
#endif
  return backend == BackendKind::cpu ? -1 : rank % count;
}

std::uint64_t free_device_bytes(BackendKind backend) {
  std::size_t free = 0, all = 0;
#ifdef CROSSDOCK_WITH_CUDA
  if (backend == BackendKind::cuda) {
    int device = 0;
    cudaMemPool_t pool{};
    check(cudaGetDevice(&device));
    check(cudaDeviceGetDefaultMemPool(&pool, device));
    check(cudaStreamSynchronize(stream_of_allocations()));
    check(cudaMemPoolTrimTo(pool, 0));  // what buffers of tests gave back is no leak
    check(cudaMemGetInfo(&free, &all));
  }
#endif
  (void)backend, (void)all;
  return free;
}

void use_device(BackendKind backend, int rank) { machine(backend).use(rank); }

Buffer::Buffer(BackendKind backend, std::size_t bytes, std::uint8_t fill, bool guarded)
    : backend_(backend), bytes_(bytes) {
  data_ = machine(backend).allocate(std::max<std::size_t>(1, bytes + (guarded ? kGuardBytes : 0)));
  if (bytes > 0) machine(backend).fill(data_.get(), fill, bytes);
  if (guarded) machine(backend).fill(static_cast<std::uint8_t*>(data_.get()) + bytes, kGuard, kGuardBytes);
}

bool Buffer::guard_is_whole() const {
  std::vector<std::uint8_t> guard(kGuardBytes);
  copy_out(backend_, guard.data(), as<std::uint8_t>() + bytes_, kGuardBytes);
  return std::all_of(guard.begin(), guard.end(), [](std::uint8_t b) { return b == kGuard; });
}

void copy_in(BackendKind backend, void* to, const void* from, std::size_t bytes, StreamHandle stream) {
  if (bytes > 0) machine(backend).enqueue_copy(to, from, bytes, stream);
}

void copy_out(BackendKind backend, void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) machine(backend).copy(to, from, bytes);
}

void synchronize(BackendKind backend, StreamHandle stream) { machine(backend).synchronize(stream); }

}  // namespace crossdock::testing
