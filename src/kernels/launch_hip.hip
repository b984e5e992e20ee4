// SPDX-License-Identifier: Apache-2.0
// Every kernel body for AMD GPUs. Compiled once per architecture into a code object that the plug-in carries.
#include "platform/hip/shim_device.hpp"

#include "platform/hip/conversion_device.hpp"

#include "kernels/bodies.hpp"
#include "kernels/launch_hip.hpp"
#include "platform/hip/hip_machine_device.hpp"

namespace crossdock::kernels::hip {
namespace {

using platform::hip::HipMachine;

/// Shared memory for a T, whose members may have initial values that shared memory cannot.
template <class T>
__device__ T& shared_memory() {
  alignas(T) __shared__ unsigned char bytes[sizeof(T)];
  return *reinterpret_cast<T*>(bytes);
}

}  // namespace

#define XD_BOUNDS __launch_bounds__(kMostThreads, 1)

extern "C" __global__ void XD_BOUNDS crossdock_dispatch(const DispatchArgs args) {
  HipMachine m;
  dispatch<false>(m, shared_memory<DispatchShared>(), args);
}

extern "C" __global__ void XD_BOUNDS crossdock_dispatch_small(const DispatchArgs args) {
  HipMachine m;
  dispatch<true>(m, shared_memory<DispatchShared>(), args);
}

extern "C" __global__ void XD_BOUNDS crossdock_dispatch_packets(const DispatchArgs args) {
  HipMachine m;
  dispatch_in_packets(m, shared_memory<PacketShared>(), args);
}

extern "C" __global__ void XD_BOUNDS crossdock_expert_rows(const ExpertRowsArgs args) {
  HipMachine m;
  expert_rows(m, shared_memory<ExpertRowsShared>(), args);
}

extern "C" __global__ void XD_BOUNDS crossdock_expert_rows_few(const ExpertRowsArgs args) {
  HipMachine m;
  few_expert_rows(m, shared_memory<FewExpertRowsShared>(), args);
}

#define XD_COMBINE(dtype, wire)                                                                                 \
  extern "C" __global__ void XD_BOUNDS crossdock_combine_##dtype##_##wire(const CombineArgs args) {             \
    HipMachine m;                                                                                               \
    combine<Dtype::dtype, Wire::wire, false>(m, args);                                                          \
  }                                                                                                             \
  extern "C" __global__ void XD_BOUNDS crossdock_combine_##dtype##_##wire##_by_expert(const CombineArgs args) { \
    HipMachine m;                                                                                               \
    combine<Dtype::dtype, Wire::wire, true>(m, args);                                                           \
  }
#include "kernels/instances.def"
#undef XD_COMBINE

#define XD_COMBINE_IN_PACKETS(dtype)                                                                    \
  extern "C" __global__ void XD_BOUNDS crossdock_combine_##dtype##_in_packets(const CombineArgs args) { \
    HipMachine m;                                                                                       \
    combine_in_packets<Dtype::dtype>(m, args);                                                          \
  }
#include "kernels/packet_instances.def"
#undef XD_COMBINE_IN_PACKETS

}  // namespace crossdock::kernels::hip
