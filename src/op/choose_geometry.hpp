// SPDX-License-Identifier: Apache-2.0
// The geometry of a call: for each of its kernels the blocks, the threads, and the splits of a row. It changes times,
// never results.
#pragma once

#include "op/exchange_state.hpp"

namespace crossdock::op {

/// How a kernel is launched.
struct KernelGeometry {
  platform::Geometry geometry;
  kernels::RowSplits splits;
};

struct DispatchGeometry {
  bool in_steps;               // kernels that wait are apart from the one that moves rows and has more blocks
  KernelGeometry dispatch;     // the kernel that writes to peers
  platform::Geometry route;    // in_steps: the kernel that routes
  KernelGeometry expert_rows;  // the kernel that copies rows to their experts; not set for token_major
  LaunchInfo info;
};
/// Does not read `args.splits`, which follows from the result.
DispatchGeometry choose_dispatch(const detail::ExchangeState& e, const kernels::DispatchArgs& args,
                                 const CallOptions& options);

struct CombineGeometry {
  bool in_steps;
  platform::Geometry geometry;
  kernels::RowSplits send, reduce;  // of the two phases: rows to their home ranks, sum of tokens
  LaunchInfo info;
};
/// Does not read `args.send` and `args.reduce`, which follow from the result. `tokens`: T of this rank, or M if only
/// the device knows T.
CombineGeometry choose_combine(const detail::ExchangeState& e, const kernels::CombineArgs& args,
                               const CallOptions& options, Path path, std::int64_t tokens);

/// One block, for a launch that only signals and waits.
platform::Geometry one_block(const detail::ExchangeState& e);
/// Whether expert_rows is launched in two steps: in one, its blocks would wait for each other, and be more than may
/// wait.
bool in_steps(const detail::ExchangeState& e, const kernels::ExpertRowsArgs& args, const platform::Geometry& geometry);

}  // namespace crossdock::op
