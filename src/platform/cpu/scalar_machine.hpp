// SPDX-License-Identifier: Apache-2.0
// The machine of the CPU: a rank runs one block of one thread. So barriers do nothing, and a loop of a thread over its
// share of the items visits all of them.
#pragma once

#include <sched.h>
#include <time.h>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include <cstring>

#include "platform/cpu/sanitizers.hpp"
#include "platform/machine.hpp"

namespace crossdock::platform::cpu {

inline std::uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

/// Orders streaming (non-temporal) stores before later stores. On x86 a release store alone does not.
inline void end_streaming_stores() {
#if defined(__x86_64__) && !XD_TSAN
  _mm_sfence();
#endif
}

/// Memory operations of the scalar machine and of the tests' fibers.
struct Memory {
  static Bytes16 load16(const void* from) {
    Bytes16 v;
    std::memcpy(&v, __builtin_assume_aligned(from, 16), 16);
    return v;
  }
  static Bytes16 load16_streaming(const void* from) { return load16(from); }
  static void store16(void* to, Bytes16 v) { std::memcpy(__builtin_assume_aligned(to, 16), &v, 16); }
  static void store16_streaming(void* to, Bytes16 v) {
#if defined(__x86_64__) && !XD_TSAN  // ThreadSanitizer does not see the streaming store
    __m128i bytes;
    std::memcpy(&bytes, &v, 16);
    _mm_stream_si128(static_cast<__m128i*>(to), bytes);
#else
    store16(to, v);
#endif
  }
  // The last word is loaded first, with acquire, and stored last, with release. This orders the other three.
  static Bytes16 load16_atomic(const void* from) {
    const auto* p = static_cast<const std::uint32_t*>(from);
    Bytes16 v;
    v.word[3] = __atomic_load_n(p + 3, __ATOMIC_ACQUIRE);
    for (int i = 0; i < 3; ++i) v.word[i] = __atomic_load_n(p + i, __ATOMIC_RELAXED);
    return v;
  }
  static void store16_atomic(void* to, Bytes16 v) {
    auto* p = static_cast<std::uint32_t*>(to);
    for (int i = 0; i < 3; ++i) __atomic_store_n(p + i, v.word[i], __ATOMIC_RELAXED);
    __atomic_store_n(p + 3, v.word[3], __ATOMIC_RELEASE);
  }
  static std::uint64_t load_relaxed(const std::uint64_t* p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
  static std::uint64_t load_acquire(const std::uint64_t* p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
  static void store_relaxed(std::uint64_t* p, std::uint64_t v) { __atomic_store_n(p, v, __ATOMIC_RELAXED); }
  static void store_release(std::uint64_t* p, std::uint64_t v) {
    end_streaming_stores();
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
  }
  static void store_release_prior_kernels(std::uint64_t* p, std::uint64_t v) { store_release(p, v); }
  static void fence_loads() {
#if !XD_TSAN  // ThreadSanitizer does not support fences; x86 keeps the order of loads without one
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
  }
  static std::uint32_t add_acq_rel(std::uint32_t* p, std::uint32_t v) {
    end_streaming_stores();
    return __atomic_fetch_add(p, v, __ATOMIC_ACQ_REL);
  }
  static std::uint32_t add_relaxed(std::uint32_t* p, std::uint32_t v) {
    return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
  }
  static void or_relaxed(std::uint32_t* p, std::uint32_t v) { __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }
  static bool claim(std::uint64_t* p, std::uint64_t v) {
    std::uint64_t expected = 0;
    return __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  }
  static std::uint64_t now_ns() { return cpu::now_ns(); }
};

class ScalarMachine : public Memory {
 public:
  static constexpr int kWidth = 1;

  static constexpr int lane() { return 0; }
  static constexpr int warp() { return 0; }
  static constexpr int num_warps() { return 1; }
  static constexpr int thread() { return 0; }
  static constexpr int num_threads() { return 1; }
  static constexpr int block() { return 0; }
  static constexpr int num_blocks() { return 1; }

  static void sync_block() {}
  static void sync_warp() {}
  static bool sync_block_or(bool flag) { return flag; }
  static float max_across(float v, int) { return v; }
  static std::uint64_t ballot(bool flag) { return flag; }

  // Hide those of Memory: a rank has one thread, so plain read-modify-write suffices.
  static std::uint32_t add_relaxed(std::uint32_t* p, std::uint32_t v) {
    std::uint32_t old = *p;
    *p = old + v;
    return old;
  }
  static void or_relaxed(std::uint32_t* p, std::uint32_t v) { *p |= v; }

  static void pause() { sched_yield(); }
};

static_assert(Machine<ScalarMachine>);

}  // namespace crossdock::platform::cpu
