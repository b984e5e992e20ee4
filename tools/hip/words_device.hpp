// SPDX-License-Identifier: Apache-2.0
// The words of the tools' kernels on AMD GPUs, for a clang without ROCm's headers. Compiled in CI, not run yet.
#pragma once

#include <cstddef>
#include <cstdint>

#define XD_BODY __attribute__((device)) inline

namespace crossdock::tools::hip {

struct Words {
  typedef std::uint32_t Bytes16 __attribute__((ext_vector_type(4), may_alias));
  typedef __attribute__((address_space(1))) Bytes16 GlobalBytes16;
  static constexpr int kWidth = 64;

  XD_BODY static int thread() { return static_cast<int>(__builtin_amdgcn_workitem_id_x()); }
  XD_BODY static int num_threads() { return static_cast<int>(__builtin_amdgcn_workgroup_size_x()); }
  XD_BODY static int block() { return static_cast<int>(__builtin_amdgcn_workgroup_id_x()); }
  XD_BODY static int num_blocks() {
    return static_cast<int>(__builtin_amdgcn_grid_size_x() / __builtin_amdgcn_workgroup_size_x());
  }
  XD_BODY static void sync_block() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "workgroup");
    __builtin_amdgcn_s_barrier();
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "workgroup");
  }

  XD_BODY static Bytes16 load16_streaming(const void* from) {
    return __builtin_nontemporal_load((const GlobalBytes16*)from);
  }
  XD_BODY static void store16_streaming(void* to, Bytes16 v) { __builtin_nontemporal_store(v, (GlobalBytes16*)to); }
  /// Until what this thread has stored is where everybody sees it.
  XD_BODY static void await_arrival() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "");
    __asm__ volatile("s_waitcnt vmcnt(0)" ::: "memory");  // which clang 22 may leave out behind the fence's write-back
  }

  XD_BODY static std::uint64_t load_acquire(const std::uint64_t* p) {
    return __hip_atomic_load(p, __ATOMIC_ACQUIRE, __HIP_MEMORY_SCOPE_SYSTEM);
  }
  XD_BODY static void store_release(std::uint64_t* p, std::uint64_t v) {
    await_arrival();
    __hip_atomic_store(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_SYSTEM);
  }
  XD_BODY static void lower(std::uint64_t* p, std::uint64_t v) {
    __hip_atomic_fetch_min(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  }
  XD_BODY static void raise(std::uint64_t* p, std::uint64_t v) {
    __hip_atomic_fetch_max(p, v, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_AGENT);
  }

  XD_BODY static std::uint64_t now_ns() { return __builtin_amdgcn_s_memrealtime() * 10; }  // 100 MHz
  XD_BODY static void pause() { __builtin_amdgcn_s_sleep(4); }
  XD_BODY static void poll() { __builtin_amdgcn_s_sleep(1); }  // an empty spin can starve xGMI until nobody moves
};

}  // namespace crossdock::tools::hip
