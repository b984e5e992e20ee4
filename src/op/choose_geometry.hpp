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
  KernelGeometry dispatch;     // the kernel that crosses the link
  KernelGeometry expert_rows;  // the kernel that copies rows to their experts; not for token_major
  LaunchInfo info;
};
/// `args` without its splits.
DispatchGeometry choose_dispatch(const detail::ExchangeState& e, const kernels::DispatchArgs& args,
                                 const CallOptions& options);

struct CombineGeometry {
  platform::Geometry geometry;
  kernels::RowSplits send, reduce;
  LaunchInfo info;
};
/// `args` without its splits. `tokens`: T of this rank, or the most it can be where only the device has it.
CombineGeometry choose_combine(const detail::ExchangeState& e, const kernels::CombineArgs& args,
                               const CallOptions& options, Path path, std::int64_t tokens);

}  // namespace crossdock::op
