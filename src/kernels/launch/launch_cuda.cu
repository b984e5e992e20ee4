// SPDX-License-Identifier: Apache-2.0
// The launch table of NVIDIA GPUs. Instances of combine are compiled one by one, see combine_instance_cuda.cu.in.

#include "kernels/dispatch/dispatch_device.hpp"
#include "kernels/dispatch/dispatch_ll_device.hpp"
#include "kernels/expert_rows/expert_rows_device.hpp"
#include "kernels/expert_rows/expert_rows_latency_device.hpp"
#include "kernels/launch/launch_cuda.hpp"

namespace crossdock::kernels::cuda {
namespace {

using platform::Geometry;
using platform::cuda::CudaMachine;

struct DispatchBody {
  using Shared = DispatchShared;
  static constexpr const char* kName = "dispatch";
  __device__ static void run(CudaMachine& m, Shared& shared, const DispatchArgs& args) { dispatch(m, shared, args); }
};
struct DispatchLatencyBody {
  using Shared = DispatchShared;
  static constexpr const char* kName = "dispatch";
  __device__ static void run(CudaMachine& m, Shared& shared, const DispatchArgs& args) {
    dispatch_latency(m, shared, args);
  }
};
struct DispatchLlBody {
  using Shared = DispatchLlShared;
  static constexpr const char* kName = "dispatch";
  __device__ static void run(CudaMachine& m, Shared& shared, const DispatchArgs& args) { dispatch_ll(m, shared, args); }
};
void launch_dispatch(Geometry geometry, StreamHandle stream, const DispatchArgs& args) {
  switch (kernel_for(args, geometry, CudaMachine::kWidth)) {
    case Kernel::ll:
      return launch<DispatchLlBody>(geometry, stream, args);
    case Kernel::latency:
      return launch<DispatchLatencyBody>(geometry, stream, args);
    case Kernel::general:
      return launch<DispatchBody>(geometry, stream, args);
  }
}
struct ExpertRowsBody {
  using Shared = ExpertRowsShared;
  static constexpr const char* kName = "expert_rows";
  __device__ static void run(CudaMachine& m, Shared& shared, const ExpertRowsArgs& args) {
    expert_rows(m, shared, args);
  }
};
struct ExpertRowsLatencyBody {
  using Shared = ExpertRowsLatencyShared;
  static constexpr const char* kName = "expert_rows";
  __device__ static void run(CudaMachine& m, Shared& shared, const ExpertRowsArgs& args) {
    expert_rows_latency(m, shared, args);
  }
};
void launch_expert_rows(Geometry geometry, StreamHandle stream, const ExpertRowsArgs& args) {
  kernel_for(args, geometry, CudaMachine::kWidth) == Kernel::latency
      ? launch<ExpertRowsLatencyBody>(geometry, stream, args)
      : launch<ExpertRowsBody>(geometry, stream, args);
}

}  // namespace

#define XD_COMBINE(dtype, quant)                                                                 \
  void launch_combine_##dtype##_##quant(Geometry, StreamHandle, const CombineArgs&);             \
  void launch_combine_##dtype##_##quant##_by_expert(Geometry, StreamHandle, const CombineArgs&); \
  int resident_combine_##dtype##_##quant(int num_threads);
#include "kernels/launch/instances.def"
#undef XD_COMBINE

/// The least over all kernels. The query also loads each kernel, which prevents a deadlock: CUDA loads kernels lazily,
/// and a first launch waits for the kernels that run on the device. Those of other ranks on the same device may be
/// waiting for this one.
int max_resident_blocks(int num_threads) {
  int fewest = resident_blocks<DispatchBody, DispatchArgs>(num_threads);
  fewest = min(fewest, resident_blocks<DispatchLatencyBody, DispatchArgs>(num_threads));
  fewest = min(fewest, resident_blocks<DispatchLlBody, DispatchArgs>(num_threads));
  fewest = min(fewest, resident_blocks<ExpertRowsBody, ExpertRowsArgs>(num_threads));
  fewest = min(fewest, resident_blocks<ExpertRowsLatencyBody, ExpertRowsArgs>(num_threads));
#define XD_COMBINE(dtype, quant) fewest = min(fewest, resident_combine_##dtype##_##quant(num_threads));
#include "kernels/launch/instances.def"
#undef XD_COMBINE
  return fewest;
}

const LaunchTable& launches() {
  static const LaunchTable table = [] {
    LaunchTable t;
    t.dispatch = launch_dispatch;
    t.expert_rows = launch_expert_rows;
    t.max_resident_blocks = max_resident_blocks;
#define XD_COMBINE(dtype, quant)                                                        \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::quant)][0] = \
      launch_combine_##dtype##_##quant;                                                 \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::quant)][1] = \
      launch_combine_##dtype##_##quant##_by_expert;
#include "kernels/launch/instances.def"
#undef XD_COMBINE
    return t;
  }();
  return table;
}

}  // namespace crossdock::kernels::cuda
