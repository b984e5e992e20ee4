// SPDX-License-Identifier: Apache-2.0
// The kernels that the fake HIP runtime knows by name: the library's, the tools' and the tests', each the same body as on a GPU, on
// fibers with 64 lanes.
#include <algorithm>
#include <stdexcept>

#include "fiber/fiber_machine.hpp"
#include "hip/fake_state.hpp"
#include "litmus/litmus_device.hpp"
#include "support/device_steps_device.hpp"
#include "support/fiber_launch.hpp"

#define XD_BODY inline
#include "gpu/kernels_device.hpp"

namespace crossdock::testing::fake {
namespace {

using platform::Geometry;

/// Whether kernels of `device` may touch a peer's memory as the host half has arranged it.
void must_reach(int device, const void* pointer, int rank) {
  const std::lock_guard lock(mutex);
  const auto found = find(pointer);
  if (found != memories.end() && (found->second.users.count(device) || peers.count({device, found->second.device})))
    return;
  throw std::logic_error("fake HIP: device " + std::to_string(device) + " was given no access to the memory of rank " +
                         std::to_string(rank));
}

template <class Args>
Kernel of_library(FiberRun<Args> body, int device) {
  const auto run = [body, device](Geometry geometry, const void* bytes) {
    const Args& args = *static_cast<const Args*>(bytes);
    for (int r = 0; r < args.call.peers.num_ranks; ++r) must_reach(device, args.call.peers.base[r], r);
    body(geometry, {static_cast<std::uint64_t>(option("order", 0))}, args);
  };
  return {run, sizeof(Args), device, 0};
}

/// The words of the tools' kernels on fibers.
struct Words {
  FiberMachine<64>& m;
  static constexpr int kWidth = 64;
  int thread() const { return m.thread(); }
  int num_threads() const { return m.num_threads(); }
  int block() const { return m.block(); }
  int num_blocks() const { return m.num_blocks(); }
  void sync_block() const { m.sync_block(); }
  platform::Bytes16 load16_streaming(const void* from) const { return m.load16_streaming(from); }
  void store16_streaming(void* to, platform::Bytes16 v) const { m.store16_streaming(to, v); }
  void await_arrival() const { platform::cpu::end_streaming_stores(); }
  std::uint64_t load_acquire(const std::uint64_t* p) const { return m.load_acquire(p); }
  void store_release(std::uint64_t* p, std::uint64_t v) const { m.store_release(p, v); }
  void lower(std::uint64_t* p, std::uint64_t v) const { *p = std::min(*p, v); }  // one thread runs all fibers
  void raise(std::uint64_t* p, std::uint64_t v) const { *p = std::max(*p, v); }
  std::uint64_t now_ns() const { return m.now_ns(); }
  void pause() const { m.pause(); }
  void poll() const { m.pause(); }
};

void must_reach_all(int, const tools::gpu::Nothing&) {}
void must_reach_all(int device, const tools::gpu::Site& site) {
  for (int d = 0; d < site.count; ++d) must_reach(device, site.to[d], d), must_reach(device, site.from[d], d);
}
void must_reach_all(int device, const tools::gpu::Pattern& pattern) { must_reach_all(device, pattern.site); }

/// The litmus loops: what one vendor adds.
struct Own {
  void fence() const {}
  template <class C>
  bool bulk_from_a(const C& c, std::uint64_t) const {
    return c.give_up();
  }
};
Kernel of_litmus(int device) {
  const auto run = [device](Geometry geometry, const void* bytes) {
    struct NoShared {};
    const auto& loop = *static_cast<const litmus::Loop*>(bytes);
    must_reach(device, loop.far.rows, 1), must_reach(device, loop.far.words, 1);
    run_fibers<64, NoShared>(geometry, [&](auto& m, NoShared&) { litmus::run_loop(m, Own{}, loop); });
  };
  return {run, sizeof(litmus::Loop), device, litmus::kThreads};
}

/// Kernels that stride over what there is to do, so that fewer threads do it too.
template <class Args, class Body, class MustReach>
Kernel of_strides(Body body, MustReach must_reach_memory, int device) {
  const auto run = [=](Geometry geometry, const void* bytes) {
    struct NoShared {};
    const Args& args = *static_cast<const Args*>(bytes);
    must_reach_memory(device, args);
    const Geometry few{std::min(geometry.num_blocks, 3), std::min(geometry.num_threads, 128)};
    run_fibers<64, NoShared>(few, [&](auto& m, NoShared&) { body(m, args); });
  };
  return {run, sizeof(Args), device, 1024};
}

}  // namespace

std::map<std::string, Kernel> all_kernels(int device) {
  using namespace kernels;
  const FiberRuns& runs = fiber_runs_64();
  std::map<std::string, Kernel> all;
  const auto add = [&](const char* name, auto body) {
    all["crossdock_" + std::string(name)] = of_library(body, device);
  };
  add("dispatch", runs.dispatch);
  add("dispatch_latency", runs.dispatch);
  add("dispatch_ll", runs.dispatch);
  add("expert_rows", runs.expert_rows);
  add("expert_rows_latency", runs.expert_rows);
#define XD_COMBINE(dtype, wire)                                                                  \
  add("combine_" #dtype "_" #wire, runs.combine[int(Dtype::dtype)][int(CombineQuant::wire)][0]); \
  add("combine_" #dtype "_" #wire "_by_expert", runs.combine[int(Dtype::dtype)][int(CombineQuant::wire)][1]);
#include "kernels/launch/instances.def"
#undef XD_COMBINE
#define XD_COMBINE_LL(dtype) add("combine_" #dtype "_ll", runs.combine[int(Dtype::dtype)][int(CombineQuant::none)][0]);
#include "kernels/launch/ll_instances.def"
#undef XD_COMBINE_LL
#define XD_TOOL(name, Arguments, threads)                                                                      \
  all["crossdock_tools_" #name] = of_strides<tools::gpu::Arguments>(                                           \
      [](auto& m, const tools::gpu::Arguments& args) { tools::gpu::name(Words{m}, args); },                    \
      [](int device_of_kernel, const tools::gpu::Arguments& args) { must_reach_all(device_of_kernel, args); }, \
      device);
  XD_GPU_KERNELS(XD_TOOL)
#undef XD_TOOL
#define XD_ADD(name)              \
  all["crossdock_tests_" #name] = \
      of_strides<Step>([](auto& m, const Step& step) { testing::name(m, step); }, [](int, const Step&) {}, device);
  XD_STEPS(XD_ADD)
#undef XD_ADD
  all["crossdock_litmus"] = of_litmus(device);
  return all;
}

}  // namespace crossdock::testing::fake
