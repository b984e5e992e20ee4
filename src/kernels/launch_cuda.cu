// SPDX-License-Identifier: Apache-2.0
// The launch table of NVIDIA GPUs. Instances of combine are compiled one by one, see combine_instance_cuda.cu.in.

#include "kernels/dispatch_device.hpp"
#include "kernels/dispatch_packets_device.hpp"
#include "kernels/expert_rows_few_device.hpp"
#include "kernels/launch_cuda.hpp"

namespace crossdock::kernels::cuda {
namespace {

using platform::Geometry;
using platform::cuda::CudaMachine;

template <bool kSmall>
struct DispatchBody {
  using Shared = DispatchShared;
  static constexpr const char* kName = "dispatch";
  __device__ static void run(CudaMachine& m, Shared& shared, const DispatchArgs& args) {
    dispatch<kSmall>(m, shared, args);
  }
};
struct DispatchInPacketsBody {
  using Shared = PacketShared;
  static constexpr const char* kName = "dispatch";
  __device__ static void run(CudaMachine& m, Shared& shared, const DispatchArgs& args) {
    dispatch_in_packets(m, shared, args);
  }
};
void launch_dispatch(Geometry geometry, StreamHandle stream, const DispatchArgs& args) {
  if (goes_in_packets(args)) return launch<DispatchInPacketsBody, DispatchArgs>(geometry, stream, args);
  const bool small = is_small(args, geometry, CudaMachine::kWidth);
  (small ? launch<DispatchBody<true>, DispatchArgs> : launch<DispatchBody<false>, DispatchArgs>)(geometry, stream,
                                                                                                 args);
}
struct ExpertRowsBody {
  using Shared = ExpertRowsShared;
  static constexpr const char* kName = "expert_rows";
  __device__ static void run(CudaMachine& m, Shared& shared, const ExpertRowsArgs& args) {
    expert_rows(m, shared, args);
  }
};
struct FewExpertRowsBody {
  using Shared = FewExpertRowsShared;
  static constexpr const char* kName = "expert_rows";
  __device__ static void run(CudaMachine& m, Shared& shared, const ExpertRowsArgs& args) {
    few_expert_rows(m, shared, args);
  }
};
void launch_expert_rows(Geometry geometry, StreamHandle stream, const ExpertRowsArgs& args) {
  (is_few(args, geometry) ? launch<FewExpertRowsBody, ExpertRowsArgs>
                          : launch<ExpertRowsBody, ExpertRowsArgs>)(geometry, stream, args);
}

}  // namespace

#define XD_COMBINE(dtype, wire)                                                                 \
  void launch_combine_##dtype##_##wire(Geometry, StreamHandle, const CombineArgs&);             \
  void launch_combine_##dtype##_##wire##_by_expert(Geometry, StreamHandle, const CombineArgs&); \
  int resident_combine_##dtype##_##wire(int num_threads);
#include "kernels/instances.def"
#undef XD_COMBINE

/// Asks for every kernel, which also loads it: the first launch of one that is not loaded yet waits for the kernels that run
/// on its device, and those of ranks that share the device may be waiting for it.
int max_resident_blocks(int num_threads) {
  int fewest = resident_blocks<DispatchBody<false>, DispatchArgs>(num_threads);
  fewest = smaller(fewest, resident_blocks<DispatchBody<true>, DispatchArgs>(num_threads));
  fewest = smaller(fewest, resident_blocks<DispatchInPacketsBody, DispatchArgs>(num_threads));
  fewest = smaller(fewest, resident_blocks<ExpertRowsBody, ExpertRowsArgs>(num_threads));
  fewest = smaller(fewest, resident_blocks<FewExpertRowsBody, ExpertRowsArgs>(num_threads));
#define XD_COMBINE(dtype, wire) fewest = smaller(fewest, resident_combine_##dtype##_##wire(num_threads));
#include "kernels/instances.def"
#undef XD_COMBINE
  return fewest;
}

const LaunchTable& launches() {
  static const LaunchTable table = [] {
    LaunchTable t;
    t.dispatch = launch_dispatch;
    t.expert_rows = launch_expert_rows;
    t.max_resident_blocks = max_resident_blocks;
#define XD_COMBINE(dtype, wire)                                                                                 \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(Wire::wire)][0] = launch_combine_##dtype##_##wire; \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(Wire::wire)][1] =                                  \
      launch_combine_##dtype##_##wire##_by_expert;
#include "kernels/instances.def"
#undef XD_COMBINE
    return t;
  }();
  return table;
}

}  // namespace crossdock::kernels::cuda
