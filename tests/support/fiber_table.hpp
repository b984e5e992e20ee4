// SPDX-License-Identifier: Apache-2.0
// The launch table of one width. Included by one source file per width, because the bodies take long to compile.
#pragma once

#include "fiber/fiber_machine.hpp"
#include "kernels/launch/bodies.hpp"
#include "platform/cpu/stream.hpp"
#include "support/fiber_launch.hpp"

namespace crossdock::testing {

struct Nothing {};

/// Splits rows into more parts than the host chose for the CPU, which is one.
inline void split(kernels::RowSplits& splits, const Executor& e, int grain = 1) {
  const int units = splits.count * splits.units_per_split, each = round_up(ceil_div(units, e.splits_per_row), grain);
  splits = kernels::RowSplits::of(units, each);
}
inline void set_splits(kernels::CombineArgs& args, const Executor& e) {
  split(args.send, e, 8);  // a block of fp8_blockwise has eight units
  split(args.reduce, e);
  if (e.push && !e.num_waiting_blocks && args.source == kernels::Source::peers) args.source = kernels::Source::slots;
}
inline void set_splits(kernels::DispatchArgs& args, const Executor& e) { split(args.splits, e); }
inline void set_splits(kernels::ExpertRowsArgs& args, const Executor& e) { split(args.splits, e); }

/// A body on fibers, at once: body(machine, shared, args).
template <int kWidth, class Shared, class Args, class Body>
void run_body(platform::Geometry geometry, const FiberOptions& options, const Args& args, Body body) {
  run_fibers<kWidth, Shared>(
      geometry, [&](auto& m, Shared& shared) { body(m, shared, args); }, options);
}

template <int kWidth>
void run_dispatch(platform::Geometry geometry, const FiberOptions& options, const kernels::DispatchArgs& args) {
  const kernels::Kernel kernel = kernels::kernel_for(args, geometry, kWidth);
  if (kernel == kernels::Kernel::ll)
    return run_body<kWidth, kernels::DispatchLlShared>(
        geometry, options, args, [](auto& m, auto& shared, const auto& a) { kernels::dispatch_ll(m, shared, a); });
  run_body<kWidth, kernels::DispatchShared>(geometry, options, args, [&](auto& m, auto& shared, const auto& a) {
    kernel == kernels::Kernel::latency ? kernels::dispatch_latency(m, shared, a) : kernels::dispatch(m, shared, a);
  });
}
template <int kWidth>
void run_expert_rows(platform::Geometry geometry, const FiberOptions& options, const kernels::ExpertRowsArgs& args) {
  if (kernels::kernel_for(args, geometry, kWidth) == kernels::Kernel::latency)
    return run_body<kWidth, kernels::ExpertRowsLatencyShared>(
        geometry, options, args,
        [](auto& m, auto& shared, const auto& a) { kernels::expert_rows_latency(m, shared, a); });
  run_body<kWidth, kernels::ExpertRowsShared>(
      geometry, options, args, [](auto& m, auto& shared, const auto& a) { kernels::expert_rows(m, shared, a); });
}
template <int kWidth, Dtype kDtype, CombineQuant kQuant, bool kByExpert>
void run_combine(platform::Geometry geometry, const FiberOptions& options, const kernels::CombineArgs& args) {
  if constexpr (ll_packet::carries(kDtype, kQuant) && !kByExpert)
    if (kernels::kernel_for(args, geometry, kWidth) == kernels::Kernel::ll)
      return run_body<kWidth, Nothing>(geometry, options, args,
                                       [](auto& m, Nothing&, const auto& a) { kernels::combine_ll<kDtype>(m, a); });
  run_body<kWidth, Nothing>(geometry, options, args, [](auto& m, Nothing&, const auto& a) {
    kernels::combine<kDtype, kQuant, kByExpert>(m, a);
  });
}

template <int kWidth>
FiberRuns make_fiber_runs() {
  FiberRuns runs{run_dispatch<kWidth>, run_expert_rows<kWidth>, {}};
#define XD_COMBINE(dtype, wire)                                                           \
  runs.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::wire)][0] = \
      run_combine<kWidth, Dtype::dtype, CombineQuant::wire, false>;                       \
  runs.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::wire)][1] = \
      run_combine<kWidth, Dtype::dtype, CombineQuant::wire, true>;
#include "built_instances.def"
#undef XD_COMBINE
  return runs;
}

/// A launch of one block.
inline bool is_single(const kernels::CombineArgs& args) { return args.step == kernels::CombineStep::meet; }
template <class Args>
bool is_single(const Args&) {
  return false;
}

/// Enqueues a body, with the executor's choices in the arguments unless it leaves them to the library.
template <int kWidth, class Args, FiberRun<Args> kRun>
void launch_fibers(platform::Geometry geometry, StreamHandle stream, const Args& asked) {
  Args args = asked;
  const FiberExecutor executor = executor_at(args.call.peers.base[args.call.peers.rank]);
  if (!executor.as_asked) {
    set_splits(args, executor);
    geometry = {is_single(args) ? 1 : executor.num_blocks, executor.num_threads};
    if (executor.num_waiting_blocks && kernels::waits(args, geometry, kWidth))
      geometry.num_blocks = min(geometry.num_blocks, executor.num_waiting_blocks);
  }
  const FiberOptions options{executor.seed, executor.multiprocessors};
  platform::cpu::enqueue_on(stream, [args, geometry, options] { kRun(geometry, options, args); });
}

template <int kWidth>
kernels::LaunchTable make_fiber_launches() {
  kernels::LaunchTable t;
  t.dispatch = launch_fibers<kWidth, kernels::DispatchArgs, run_dispatch<kWidth>>;
  t.expert_rows = launch_fibers<kWidth, kernels::ExpertRowsArgs, run_expert_rows<kWidth>>;
  t.max_resident_blocks = [](int) { return 1; };
#define XD_COMBINE(dtype, wire)                                                                                  \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::wire)][0] =                           \
      launch_fibers<kWidth, kernels::CombineArgs, run_combine<kWidth, Dtype::dtype, CombineQuant::wire, false>>; \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::wire)][1] =                           \
      launch_fibers<kWidth, kernels::CombineArgs, run_combine<kWidth, Dtype::dtype, CombineQuant::wire, true>>;
#include "built_instances.def"
#undef XD_COMBINE
  return t;
}

}  // namespace crossdock::testing
