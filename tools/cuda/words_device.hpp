// SPDX-License-Identifier: Apache-2.0
// The words of the tools' kernels on NVIDIA GPUs.
#pragma once

#include <cstdint>

#define XD_BODY __device__ inline

namespace crossdock::tools::cuda {

struct Words {
  static constexpr int kWidth = 32;

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int num_threads() { return static_cast<int>(blockDim.x); }
  __device__ static int block() { return static_cast<int>(blockIdx.x); }
  __device__ static int num_blocks() { return static_cast<int>(gridDim.x); }
  __device__ static void sync_block() { __syncthreads(); }

  __device__ static uint4 load16_streaming(const void* from) { return __ldcs(static_cast<const uint4*>(from)); }
  __device__ static void store16_streaming(void* to, uint4 v) { __stcs(static_cast<uint4*>(to), v); }
  /// Until what this thread has stored is where everybody sees it.
  __device__ static void await_arrival() { __threadfence_system(); }

  __device__ static std::uint64_t load_acquire(const std::uint64_t* p) {
    std::uint64_t v;
    asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
  }
  __device__ static void store_release(std::uint64_t* p, std::uint64_t v) {
    asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
  }
  __device__ static void lower(std::uint64_t* p, std::uint64_t v) {
    atomicMin(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(v));
  }
  __device__ static void raise(std::uint64_t* p, std::uint64_t v) {
    atomicMax(reinterpret_cast<unsigned long long*>(p), static_cast<unsigned long long>(v));
  }

  __device__ static std::uint64_t now_ns() {
    std::uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
  }
  __device__ static void pause() { __nanosleep(100); }
  __device__ static void poll() {}  // between two looks where a latency is measured
};

}  // namespace crossdock::tools::cuda
