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
  KernelGeometry dispatch;     // the kernel that writes to peers
  KernelGeometry expert_rows;  // the kernel that copies rows to their experts; not set for token_major
  LaunchInfo info;
};
/// Does not read `args.splits`, which follows from the result.
DispatchGeometry choose_dispatch(const detail::ExchangeState& e, const kernels::DispatchArgs& args,
                                 const CallOptions& options);

struct CombineGeometry {
  platform::Geometry geometry;
  kernels::RowSplits send, reduce;  // of the two phases: rows to their home ranks, sum of tokens
  LaunchInfo info;
};
/// Does not read `args.send` and `args.reduce`, which follow from the result. `tokens`: T of this rank, or M if only
/// the device knows T.
CombineGeometry choose_combine(const detail::ExchangeState& e, const kernels::CombineArgs& args,
                               const CallOptions& options, Path path, std::int64_t tokens);

}  // namespace crossdock::op
