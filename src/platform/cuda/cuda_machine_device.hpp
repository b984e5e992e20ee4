// SPDX-License-Identifier: Apache-2.0
// The machine of NVIDIA GPUs: warps of 32. The memory order of a word is in its PTX instruction.
#pragma once

#include "platform/machine.hpp"

namespace crossdock::platform::cuda {

struct CudaMachine {
  static constexpr int kWidth = 32;

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int num_threads() { return static_cast<int>(blockDim.x); }
  __device__ static int block() { return static_cast<int>(blockIdx.x); }
  __device__ static int num_blocks() { return static_cast<int>(gridDim.x); }
  __device__ static int lane() { return thread() % kWidth; }
  __device__ static int warp() { return thread() / kWidth; }
  __device__ static int num_warps() { return num_threads() / kWidth; }

  __device__ static void sync_block() { __syncthreads(); }
  __device__ static void sync_warp() { __syncwarp(); }
  __device__ static bool sync_block_or(bool flag) { return __syncthreads_or(flag) != 0; }
  __device__ static float max_across(float v, int n) {
    for (int step = 1; step < n; step *= 2) {
      const float other = __shfl_xor_sync(kAllLanes, v, step);
      v = other > v ? other : v;
    }
    return v;
  }
  __device__ static std::uint64_t ballot(bool flag) { return __ballot_sync(kAllLanes, flag); }

  __device__ static Bytes16 load16(const void* from) {
    Bytes16 v;
    asm volatile("ld.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
                 : "l"(from)
                 : "memory");
    return v;
  }
  __device__ static Bytes16 load16_streaming(const void* from) {
    Bytes16 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.word[0]), "=r"(v.word[1]), "=r"(v.word[2]), "=r"(v.word[3])
                 : "l"(__cvta_generic_to_global(from))
                 : "memory");
    return v;
  }
  __device__ static void store16(void* to, Bytes16 v) {
    asm volatile("st.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(v.word[0]), "r"(v.word[1]), "r"(v.word[2]),
                 "r"(v.word[3])
                 : "memory");
  }
  __device__ static void store16_streaming(void* to, Bytes16 v) {
    asm volatile("st.global.L1::no_allocate.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
                 "r"(v.word[0]), "r"(v.word[1]), "r"(v.word[2]), "r"(v.word[3])
                 : "memory");
  }

  /// The PTX memory model treats a relaxed .b128 access as one access.
  __device__ static Bytes16 load16_atomic(const void* from) {
    std::uint64_t low, high;
    asm volatile("{ .reg .b128 q; ld.relaxed.sys.global.b128 q, [%2]; mov.b128 {%0, %1}, q; }"
                 : "=l"(low), "=l"(high)
                 : "l"(__cvta_generic_to_global(from))
                 : "memory");
    return {{static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32), static_cast<std::uint32_t>(high),
             static_cast<std::uint32_t>(high >> 32)}};
  }
  __device__ static void store16_atomic(void* to, Bytes16 v) {
    const std::uint64_t low = v.word[0] | std::uint64_t{v.word[1]} << 32,
                        high = v.word[2] | std::uint64_t{v.word[3]} << 32;
    asm volatile("{ .reg .b128 q; mov.b128 q, {%1, %2}; st.relaxed.sys.global.b128 [%0], q; }" ::"l"(
                     __cvta_generic_to_global(to)),
                 "l"(low), "l"(high)
                 : "memory");
  }

  __device__ static std::uint64_t load_relaxed(const std::uint64_t* p) {
    std::uint64_t v;
    asm volatile("ld.relaxed.sys.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
  }
  __device__ static std::uint64_t load_acquire(const std::uint64_t* p) {
    std::uint64_t v;
    asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
    return v;
  }
  __device__ static void store_relaxed(std::uint64_t* p, std::uint64_t v) {
    asm volatile("st.relaxed.sys.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
  }
  __device__ static void store_release(std::uint64_t* p, std::uint64_t v) {
    asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
  }
  /// Relaxed suffices: each prior kernel of the stream released its writes at system scope when it ended, and this
  /// kernel stores only after that.
  __device__ static void store_release_prior_kernels(std::uint64_t* p, std::uint64_t v) { store_relaxed(p, v); }
  __device__ static void fence_loads() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }
  __device__ static std::uint32_t add_acq_rel(std::uint32_t* p, std::uint32_t v) {
    std::uint32_t old;
    asm volatile("atom.acq_rel.gpu.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory");
    return old;
  }
  __device__ static std::uint32_t add_relaxed(std::uint32_t* p, std::uint32_t v) {
    std::uint32_t old;
    asm volatile("atom.relaxed.gpu.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory");
    return old;
  }
  __device__ static void or_relaxed(std::uint32_t* p, std::uint32_t v) {
    const unsigned shared = static_cast<unsigned>(__cvta_generic_to_shared(p));
    asm volatile("red.relaxed.cta.shared::cta.or.b32 [%0], %1;" ::"r"(shared), "r"(v) : "memory");
  }
  __device__ static bool claim(std::uint64_t* p, std::uint64_t v) {
    std::uint64_t old;
    asm volatile("atom.relaxed.gpu.cas.b64 %0, [%1], %2, %3;"
                 : "=l"(old)
                 : "l"(p), "l"(std::uint64_t{0}), "l"(v)
                 : "memory");
    return old == 0;
  }

  __device__ static std::uint64_t now_ns() {
    std::uint64_t ns;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
    return ns;
  }
  __device__ static void pause() {}  // a poll is an uncached load and slow enough; a sleep adds latency

 private:
  static constexpr unsigned kAllLanes = 0xffffffffu;
};

static_assert(Machine<CudaMachine>);

/// Waits until all prior kernels of the stream have ended and their stores are visible. Needed because programmatic
/// dependent launch starts this kernel while the one before it still runs.
__device__ inline void wait_for_prior_kernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

}  // namespace crossdock::platform::cuda
