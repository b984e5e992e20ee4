// SPDX-License-Identifier: Apache-2.0
// Every kernel body for AMD GPUs. Compiled once per architecture into a code object that the plug-in carries.
#include "platform/hip/shim_device.hpp"

#include "platform/hip/conversion_device.hpp"

#include "kernels/launch/bodies.hpp"
#include "kernels/launch/launch_hip.hpp"
#include "platform/hip/hip_machine_device.hpp"

namespace crossdock::kernels::hip {
namespace {

using platform::hip::HipMachine;

/// Shared memory for a T, declared as bytes: shared memory cannot have initialisers, and members of T may have some.
template <class T>
__device__ T& shared_memory() {
  alignas(T) __shared__ unsigned char bytes[sizeof(T)];
  return *reinterpret_cast<T*>(bytes);
}

}  // namespace

#define XD_BOUNDS __launch_bounds__(kMaxThreads, 1)

extern "C" __global__ void XD_BOUNDS crossdock_dispatch(const DispatchArgs args) {
  HipMachine m;
  dispatch(m, shared_memory<DispatchShared>(), args);
}

extern "C" __global__ void XD_BOUNDS crossdock_dispatch_latency(const DispatchArgs args) {
  HipMachine m;
  dispatch_latency(m, shared_memory<DispatchShared>(), args);
}

extern "C" __global__ void XD_BOUNDS crossdock_dispatch_ll(const DispatchArgs args) {
  HipMachine m;
  dispatch_ll(m, shared_memory<DispatchLlShared>(), args);
}

extern "C" __global__ void XD_BOUNDS crossdock_expert_rows(const ExpertRowsArgs args) {
  HipMachine m;
  expert_rows(m, shared_memory<ExpertRowsShared>(), args);
}

extern "C" __global__ void XD_BOUNDS crossdock_expert_rows_latency(const ExpertRowsArgs args) {
  HipMachine m;
  expert_rows_latency(m, shared_memory<ExpertRowsLatencyShared>(), args);
}

#define XD_COMBINE(dtype, quant)                                                                                 \
  extern "C" __global__ void XD_BOUNDS crossdock_combine_##dtype##_##quant(const CombineArgs args) {             \
    HipMachine m;                                                                                                \
    combine<Dtype::dtype, CombineQuant::quant, false>(m, args);                                                  \
  }                                                                                                              \
  extern "C" __global__ void XD_BOUNDS crossdock_combine_##dtype##_##quant##_by_expert(const CombineArgs args) { \
    HipMachine m;                                                                                                \
    combine<Dtype::dtype, CombineQuant::quant, true>(m, args);                                                   \
  }
#include "kernels/launch/instances.def"
#undef XD_COMBINE

#define XD_COMBINE_LL(dtype)                                                                    \
  extern "C" __global__ void XD_BOUNDS crossdock_combine_##dtype##_ll(const CombineArgs args) { \
    HipMachine m;                                                                               \
    combine_ll<Dtype::dtype>(m, args);                                                          \
  }
#include "kernels/launch/ll_instances.def"
#undef XD_COMBINE_LL

}  // namespace crossdock::kernels::hip
