// SPDX-License-Identifier: Apache-2.0
// The launch table of one width. Included by one source file per width, because the bodies take long to compile.
#pragma once

#include "kernels/bodies.hpp"
#include "platform/cpu/fiber_machine.hpp"
#include "platform/cpu/stream.hpp"
#include "support/fiber_launch.hpp"

namespace crossdock::testing {

struct Nothing {};

/// Cuts rows into more pieces than the host chose for the CPU, which is one.
inline void split(kernels::Pieces& pieces, const Executor& e, int grain = 1) {
  const int units = pieces.count * pieces.units_per_piece, each = round_up(ceil_div(units, e.pieces), grain);
  pieces = {ceil_div(units, each), each};
}
inline void set_pieces(kernels::CombineArgs& args, const Executor& e) {
  split(args.send, e, 8);  // a block of fp8_block128 has eight units
  split(args.reduce, e);
  if (e.push && args.source == kernels::Source::peers) args.source = kernels::Source::landing;
}
inline void set_pieces(kernels::DispatchArgs& args, const Executor& e) { split(args.pieces, e); }
inline void set_pieces(kernels::ExpertRowsArgs& args, const Executor& e) { split(args.pieces, e); }

/// Enqueues body(machine, shared, args) on fibers, with the executor's choices in the arguments.
template <int kWidth, class Shared, class Args, class Body>
void launch_fibers(StreamHandle stream, Args args, Body body) {
  const Executor executor = executor_at(args.call.peers.base[args.call.peers.rank]);
  set_pieces(args, executor);
  platform::cpu::enqueue_on(stream, [args, body, executor] {
    platform::cpu::run_fibers<kWidth, Shared>({executor.num_blocks, executor.num_threads},
                                              [&](auto& m, Shared& shared) { body(m, shared, args); },
                                              {.seed = executor.seed});
  });
}

template <int kWidth, Dtype kDtype, Wire kWire, bool kByExpert>
void launch_combine(platform::Geometry, StreamHandle stream, const kernels::CombineArgs& args) {
  launch_fibers<kWidth, Nothing>(
      stream, args,
      [](auto& m, Nothing&, const kernels::CombineArgs& a) { kernels::combine<kDtype, kWire, kByExpert>(m, a); });
}

template <int kWidth>
kernels::LaunchTable make_fiber_launches() {
  using platform::Geometry;
  kernels::LaunchTable t;
  t.dispatch = [](Geometry, StreamHandle stream, const kernels::DispatchArgs& args) {
    launch_fibers<kWidth, kernels::DispatchShared>(
        stream, args, [](auto& m, auto& shared, const auto& a) { kernels::dispatch(m, shared, a); });
  };
  t.expert_counts = [](Geometry, StreamHandle stream, const kernels::ExpertRowsArgs& args) {
    launch_fibers<kWidth, Nothing>(
        stream, args, [](auto& m, Nothing&, const auto& a) { kernels::expert_counts(m, a); });
  };
  t.expert_rows = [](Geometry, StreamHandle stream, const kernels::ExpertRowsArgs& args) {
    launch_fibers<kWidth, kernels::ExpertRowsShared>(
        stream, args, [](auto& m, auto& shared, const auto& a) { kernels::expert_rows(m, shared, a); });
  };
  t.max_resident_blocks = [](int) { return 1; };
#define XD_COMBINE(dtype, wire)                                                                       \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(Wire::wire)][0] =                        \
      launch_combine<kWidth, Dtype::dtype, Wire::wire, false>;                                        \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(Wire::wire)][1] =                        \
      launch_combine<kWidth, Dtype::dtype, Wire::wire, true>;
#include "kernels/instances.def"
#undef XD_COMBINE
  return t;
}

}  // namespace crossdock::testing
