// SPDX-License-Identifier: Apache-2.0
// The CPU's launch table. built_instances.def is written by CMake: the rows of instances.def that this library has, see
// CROSSDOCK_INSTANCES. Instances of combine are compiled one by one, see combine_instance_cpu.cpp.in.

#include "kernels/launch/launch_cpu.hpp"

#include "kernels/dispatch/dispatch_device.hpp"
#include "kernels/dispatch/dispatch_ll_device.hpp"
#include "kernels/expert_rows/expert_rows_device.hpp"

namespace crossdock::kernels::cpu {
namespace {

using platform::Geometry;
using platform::cpu::ScalarMachine;

void launch_dispatch(Geometry, StreamHandle stream, const DispatchArgs& args) {
  if (kernel_for(args, {}, ScalarMachine::kWidth) == Kernel::ll)
    return enqueue(stream, args, [](ScalarMachine& m, const DispatchArgs& a) {
      DispatchLlShared shared;
      dispatch_ll(m, shared, a);
    });
  enqueue(stream, args, [](ScalarMachine& m, const DispatchArgs& a) {
    DispatchShared shared;
    dispatch(m, shared, a);  // never dispatch_latency: a launch of one block has no block for its control tasks
  });
}

void launch_expert_rows(Geometry, StreamHandle stream, const ExpertRowsArgs& args) {
  enqueue(stream, args, [](ScalarMachine& m, const ExpertRowsArgs& a) {
    ExpertRowsShared shared;
    expert_rows(m, shared, a);
  });
}

}  // namespace

#define XD_COMBINE(dtype, quant)                                                     \
  void launch_combine_##dtype##_##quant(Geometry, StreamHandle, const CombineArgs&); \
  void launch_combine_##dtype##_##quant##_by_expert(Geometry, StreamHandle, const CombineArgs&);
#include "built_instances.def"
#undef XD_COMBINE

const LaunchTable& launches() {
  static const LaunchTable table = [] {
    LaunchTable t;
    t.dispatch = launch_dispatch;
    t.expert_rows = launch_expert_rows;
    t.max_resident_blocks = [](int) { return 1; };
#define XD_COMBINE(dtype, quant)                                                        \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::quant)][0] = \
      launch_combine_##dtype##_##quant;                                                 \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::quant)][1] = \
      launch_combine_##dtype##_##quant##_by_expert;
#include "built_instances.def"
#undef XD_COMBINE
    return t;
  }();
  return table;
}

}  // namespace crossdock::kernels::cpu
