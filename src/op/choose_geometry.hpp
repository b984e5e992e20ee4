// SPDX-License-Identifier: Apache-2.0
// The geometry of a call: blocks, threads, and the splits of a row of each of its kernels. It changes times, never results.
#pragma once

#include "op/exchange_state.hpp"

namespace crossdock::op {

/// How a kernel is launched.
struct KernelGeometry {
  platform::Geometry geometry;
  kernels::RowSplits splits;
};

struct DispatchGeometry {
  bool in_steps;               // more blocks than may wait: launches that wait are apart from the one that moves rows
  KernelGeometry dispatch;     // the kernel that crosses the link
  platform::Geometry route;    // in_steps: the kernel that routes
  KernelGeometry expert_rows;  // the kernel that copies rows to their experts; not for token_major
  LaunchInfo info;
};
/// `args` without its splits.
DispatchGeometry choose_dispatch(const detail::ExchangeState& e, const kernels::DispatchArgs& args,
                                 const CallOptions& options);

struct CombineGeometry {
  bool in_steps;
  platform::Geometry geometry;
  kernels::RowSplits send, reduce;
  LaunchInfo info;
};
/// `args` without its splits. `tokens`: T of this rank, or the most it can be where only the device has it.
CombineGeometry choose_combine(const detail::ExchangeState& e, const kernels::CombineArgs& args,
                               const CallOptions& options, Path path, std::int64_t tokens);

/// One block, for a launch that only signals and waits.
platform::Geometry one_block(const detail::ExchangeState& e);
/// Whether a launch of expert_rows is two: its blocks wait for each other, and are more than may wait.
bool in_steps(const detail::ExchangeState& e, const kernels::ExpertRowsArgs& args, const platform::Geometry& geometry);

}  // namespace crossdock::op
