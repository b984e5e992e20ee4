// SPDX-License-Identifier: Apache-2.0
// A machine with real lanes, for tests: each thread of a launch is a fiber, a warp has kWidth of them, and all blocks are
// alive at once. It runs the same kernel bodies as a GPU; under ThreadSanitizer a missing barrier is a data race.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#include "fiber/fiber_launch.hpp"
#include "platform/cpu/scalar_machine.hpp"

namespace crossdock::testing {

template <int kWidthValue>
class FiberMachine : public platform::cpu::Memory {
 public:
  static constexpr int kWidth = kWidthValue;

  FiberMachine(FiberLaunch& launch, int fiber)
      : launch_(launch),
        fiber_(fiber),
        thread_(fiber % launch.geometry().num_threads),
        block_(fiber / launch.geometry().num_threads) {}

  int lane() const { return thread_ % kWidth; }
  int warp() const { return thread_ / kWidth; }
  int num_warps() const { return num_threads() / kWidth; }
  int thread() const { return thread_; }
  int num_threads() const { return launch_.geometry().num_threads; }
  int block() const { return block_; }
  int num_blocks() const { return launch_.geometry().num_blocks; }

  void sync_block() { launch_.meet(FiberCall::sync_block, fiber_); }
  void sync_warp() { launch_.meet(FiberCall::sync_warp, fiber_); }
  bool sync_block_or(bool flag) { return launch_.meet(FiberCall::sync_block_or, fiber_, {.flag = flag}).flag != 0; }
  /// All lanes of the warp must call it together, whatever n is.
  float max_across(float v, int n) { return launch_.meet(FiberCall::max_across, fiber_, {.number = v}, n).number; }
  std::uint64_t ballot(bool flag) { return launch_.meet(FiberCall::ballot, fiber_, {.bits = flag}).bits; }

  // With a seed, other threads may run before any operation on a word.
  platform::Bytes16 load16_atomic(const void* from) { return launch_.interrupt(), load_packet(from); }
  void store16_atomic(void* to, platform::Bytes16 v) { launch_.interrupt(), store_packet(to, v); }
  std::uint64_t load_relaxed(const std::uint64_t* p) { return launch_.interrupt(), Memory::load_relaxed(p); }
  std::uint64_t load_acquire(const std::uint64_t* p) { return launch_.interrupt(), Memory::load_acquire(p); }
  void store_relaxed(std::uint64_t* p, std::uint64_t v) { launch_.interrupt(), Memory::store_relaxed(p, v); }
  void store_release(std::uint64_t* p, std::uint64_t v) { launch_.interrupt(), Memory::store_release(p, v); }
  void store_release_prior_kernels(std::uint64_t* p, std::uint64_t v) {
    launch_.interrupt(), launch_.store_release_of_caller(p, v);
  }
  std::uint32_t add_acq_rel(std::uint32_t* p, std::uint32_t v) {
    return launch_.interrupt(), Memory::add_acq_rel(p, v);
  }
  std::uint32_t add_relaxed(std::uint32_t* p, std::uint32_t v) {
    return launch_.interrupt(), Memory::add_relaxed(p, v);
  }
  void or_relaxed(std::uint32_t* p, std::uint32_t v) { launch_.interrupt(), Memory::or_relaxed(p, v); }
  bool claim(std::uint64_t* p, std::uint64_t v) { return launch_.interrupt(), Memory::claim(p, v); }

  void pause() { launch_.pause(); }

 private:
  // For ThreadSanitizer a packet orders nothing but its own words, as on a GPU.
  static platform::Bytes16 load_packet(const void* from) {
#if XD_TSAN
    const auto* p = static_cast<const std::uint32_t*>(from);
    platform::Bytes16 v;
    for (int i = 3; i >= 0; --i) v.word[i] = __atomic_load_n(p + i, __ATOMIC_RELAXED);  // x86 keeps their order
    return v;
#else
    return Memory::load16_atomic(from);
#endif
  }
  static void store_packet(void* to, platform::Bytes16 v) {
#if XD_TSAN
    auto* p = static_cast<std::uint32_t*>(to);
    for (int i = 0; i < 4; ++i) __atomic_store_n(p + i, v.word[i], __ATOMIC_RELAXED);
#else
    Memory::store16_atomic(to, v);
#endif
  }

  FiberLaunch& launch_;
  int fiber_, thread_, block_;
};

static_assert(platform::Machine<FiberMachine<1>> && platform::Machine<FiberMachine<32>> &&
              platform::Machine<FiberMachine<64>>);

/// Runs body(FiberMachine<kWidth>&, Shared&) in every thread of a launch, on the calling OS thread. Each block has one
/// Shared of its own, filled with 0xA5, so that a read before the first write shows. Throws what FiberLaunch::run throws.
template <int kWidth, class Shared, class Body>
void run_fibers(const platform::Geometry& geometry, Body&& body, const FiberOptions& options = {}) {
  static_assert(std::is_trivially_default_constructible_v<Shared> && std::is_trivially_destructible_v<Shared>,
                "shared memory of a GPU has no constructors");
  struct Free {
    void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{alignof(Shared)}); }
  };
  using Storage = std::unique_ptr<std::byte, Free>;
  struct Context {
    FiberLaunch launch;
    std::remove_reference_t<Body>& body;
    std::unique_ptr<Storage[]> shared;
  } context{{geometry, kWidth, options}, body, std::make_unique<Storage[]>(geometry.num_blocks)};
  for (int b = 0; b < geometry.num_blocks; ++b) {
    context.shared[b].reset(
        static_cast<std::byte*>(::operator new (sizeof(Shared), std::align_val_t{alignof(Shared)})));
    std::memset(context.shared[b].get(), 0xA5, sizeof(Shared));
  }
  context.launch.run(
      [](void* argument, int fiber) {
        auto& c = *static_cast<Context*>(argument);
        FiberMachine<kWidth> machine(c.launch, fiber);
        c.body(machine, *reinterpret_cast<Shared*>(c.shared[machine.block()].get()));
      },
      &context);
}

}  // namespace crossdock::testing
