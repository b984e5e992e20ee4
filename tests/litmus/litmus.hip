// SPDX-License-Identifier: Apache-2.0
// The loops for AMD GPUs. Compiled in every run of the tests, not run yet.
#include "platform/hip/shim_device.hpp"

#include "litmus/litmus_device.hpp"
#include "platform/hip/hip_machine_device.hpp"

using namespace crossdock;

namespace {

struct Own {
  __device__ static void fence() {
    __builtin_amdgcn_fence(__ATOMIC_RELEASE, "");
    __asm__ volatile("s_waitcnt vmcnt(0)" ::: "memory");
    __builtin_amdgcn_fence(__ATOMIC_ACQUIRE, "");
  }
  template <class C>
  __device__ static bool bulk_from_a(const C& c, std::uint64_t) {
    return c.give_up();  // there are none; the program leaves such loops out
  }
};

}  // namespace

extern "C" __global__ void __launch_bounds__(litmus::kThreads, 1) crossdock_litmus(const litmus::Loop loop) {
  platform::hip::HipMachine m;
  litmus::run_loop(m, Own{}, loop);
}
