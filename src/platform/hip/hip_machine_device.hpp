// SPDX-License-Identifier: Apache-2.0
// The machine of AMD GPUs. CDNA (gfx942, gfx950) has waves of 64; the width is a parameter. CI compiles it; it has not
// run on a device yet.
//
// Every operation has its memory order. tests/compile/check_amd.py compares the instructions that clang emits for each
// operation with AMD's memory model. Rows are copied by 16-byte loads and stores. Asynchronous loads into shared memory
// would not help: there is no store from shared memory to a peer except through registers.
#pragma once

#include "platform/hip/arithmetic.hpp"
#include "platform/machine.hpp"

namespace crossdock::platform::hip {

template <int kWidthValue>
struct HipMachineOf {
  static constexpr int kWidth = kWidthValue;

  __device__ static int thread() { return static_cast<int>(__builtin_amdgcn_workitem_id_x()); }
  __device__ static int num_threads() { return static_cast<int>(__builtin_amdgcn_workgroup_size_x()); }
  __device__ static int block() { return static_cast<int>(__builtin_amdgcn_workgroup_id_x()); }
  __device__ static int num_blocks() {
    return static_cast<int>(__builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x());
  }
  __device__ static int lane() { return lane_of(thread(), kWidth); }
  __device__ static int warp() { return warp_of(thread(), kWidth); }
  __device__ static int num_warps() { return num_threads() / kWidth; }

  __device__ static void sync_block() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    wait_for_memory();  // so that a thread may release for the whole block afterwards
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  }
  __device__ static void sync_warp() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "wavefront");
    __builtin_amdgcn_wave_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "wavefront");
  }
  __device__ static bool sync_block_or(bool flag) {
    __shared__ std::uint32_t any;
    if (thread() == 0) any = 0;
    sync_block();
    if (flag) __hip_atomic_store(&any, 1u, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
    sync_block();
    const bool result = any != 0;
    sync_block();  // before the next call clears it
    return result;
  }
  __device__ static float max_across(float v, int n) {
    const auto exchanged = [](float mine, int step) {
      return __builtin_bit_cast(float, from_partner(__builtin_bit_cast(int, mine), step));
    };
    return butterfly(v, n, exchanged, [](float a, float b) { return b > a ? b : a; });
  }
  __device__ static std::uint64_t ballot(bool flag) {
    if constexpr (kWidth == 64)
      return __builtin_amdgcn_ballot_w64(flag);
    else
      return __builtin_amdgcn_ballot_w32(flag);
  }

  __device__ static Bytes16 load16(const void* from) { return __builtin_bit_cast(Bytes16, *global(from)); }
  __device__ static Bytes16 load16_streaming(const void* from) {
    return __builtin_bit_cast(Bytes16, __builtin_nontemporal_load(global(from)));
  }
  __device__ static void store16(void* to, Bytes16 v) { *global(to) = __builtin_bit_cast(Words4, v); }
  __device__ static void store16_streaming(void* to, Bytes16 v) {
    __builtin_nontemporal_store(__builtin_bit_cast(Words4, v), global(to));
  }

  /// AMD's memory model has no atomic access of 16 bytes. Two of 8 bytes in a fixed order replace it: the half with the
  /// flag is loaded first, with acquire, and stored last, with release.
  __device__ static Bytes16 load16_atomic(const void* from) {
    const auto* p = static_cast<const std::uint64_t*>(from);
    const std::uint64_t high = load_acquire(p + 1), low = load_relaxed(p);
    return {{static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32), static_cast<std::uint32_t>(high),
             static_cast<std::uint32_t>(high >> 32)}};
  }
  __device__ static void store16_atomic(void* to, Bytes16 v) {
    auto* p = static_cast<std::uint64_t*>(to);
    store_relaxed(p, v.word[0] | std::uint64_t{v.word[1]} << 32);
    store_release(p + 1, v.word[2] | std::uint64_t{v.word[3]} << 32);
  }

  __device__ static std::uint64_t load_relaxed(const std::uint64_t* p) {
    return __hip_atomic_load(p, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
  }
  __device__ static std::uint64_t load_acquire(const std::uint64_t* p) {
    return __hip_atomic_load(p, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_SYSTEM);
  }
  __device__ static void store_relaxed(std::uint64_t* p, std::uint64_t v) {
    __hip_atomic_store(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
  }
  __device__ static void store_release(std::uint64_t* p, std::uint64_t v) {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "");
    wait_for_memory();
    __hip_atomic_store(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
  }
  /// A full release at system scope: between kernels of a stream the runtime may release at device scope, which is not
  /// enough for peers.
  __device__ static void store_release_prior_kernels(std::uint64_t* p, std::uint64_t v) { store_release(p, v); }
  __device__ static void fence_loads() {
    wait_for_memory();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "");
  }
  __device__ static std::uint32_t add_acq_rel(std::uint32_t* p, std::uint32_t v) {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "agent");
    wait_for_memory();
    return __hip_atomic_fetch_add(p, v, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_AGENT);
  }
  __device__ static std::uint32_t add_relaxed(std::uint32_t* p, std::uint32_t v) {
    return __hip_atomic_fetch_add(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  }
  __device__ static void or_relaxed(std::uint32_t* p, std::uint32_t v) {
    __hip_atomic_fetch_or((SharedWord*)p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
  }
  __device__ static bool claim(std::uint64_t* p, std::uint64_t v) {
    std::uint64_t expected = 0;
    return __hip_atomic_compare_exchange_strong(p, &expected, v, __ATOMIC_RELAXED, __ATOMIC_RELAXED,
                                                __HIP_MEMORY_SCOPE_AGENT);
  }

  __device__ static std::uint64_t now_ns() { return ns_of_ticks(__builtin_amdgcn_s_memrealtime()); }
  __device__ static void pause() { __builtin_amdgcn_s_sleep(2); }  // a spin without sleep can starve xGMI traffic

 private:
  typedef std::uint32_t Words4 __attribute__((ext_vector_type(4), may_alias));
  typedef __attribute__((address_space(1))) Words4 GlobalWords4;
  typedef __attribute__((address_space(3))) std::uint32_t SharedWord;

  /// Waits until all memory operations of this wave are complete, including a write-back of the cache; on gfx9 one
  /// counter counts them all. clang 22 omits this wait after a write-back if the same wave has stored nothing before it
  /// (llvm/llvm-project pull request 178316). A released word could then arrive before rows that other waves wrote.
  __device__ static void wait_for_memory() { __asm__ volatile("s_waitcnt vmcnt(0)" ::: "memory"); }

  /// Casts to a global pointer: rows are in global memory, and a generic access would check for shared memory.
  __device__ static const GlobalWords4* global(const void* p) { return (const GlobalWords4*)p; }
  __device__ static GlobalWords4* global(void* p) { return (GlobalWords4*)p; }
  __device__ static int from_partner(int v, int step) {
    return __builtin_amdgcn_ds_bpermute(permute_address(partner_of(lane(), step)), v);
  }
};

using HipMachine = HipMachineOf<kWidth>;
static_assert(Machine<HipMachine> && Machine<HipMachineOf<32>>);

}  // namespace crossdock::platform::hip
