// SPDX-License-Identifier: Apache-2.0
// One kernel for every body and every row of instances.def, on the TestedMachine of the including file. Compiled and
// looked at, never run: check_bodies.py reads what the compiler says of registers and spills.
#pragma once

#include "kernels/launch/bodies.hpp"

namespace crossdock::kernels {

inline constexpr int kMaxThreads =
    XD_MAX_THREADS;  // of a block, one block on a multiprocessor: so many registers there are

/// Shared memory for a T, whose members may have initial values that shared memory cannot.
template <class T>
__device__ T& shared_memory() {
  alignas(T) __shared__ unsigned char bytes[sizeof(T)];
  return *reinterpret_cast<T*>(bytes);
}

template <bool kLatency>
__global__ void __launch_bounds__(kMaxThreads, 1) dispatch_kernel(XD_KERNEL_ARGS DispatchArgs args) {
  TestedMachine m;
  dispatch<kLatency>(m, shared_memory<DispatchShared>(), args);
}
template __global__ void dispatch_kernel<false>(XD_KERNEL_ARGS DispatchArgs);
template __global__ void dispatch_kernel<true>(XD_KERNEL_ARGS DispatchArgs);

__global__ void __launch_bounds__(kMaxThreads, 1) dispatch_ll_kernel(XD_KERNEL_ARGS DispatchArgs args) {
  TestedMachine m;
  dispatch_ll(m, shared_memory<DispatchLlShared>(), args);
}

__global__ void __launch_bounds__(kMaxThreads, 1) expert_rows_kernel(XD_KERNEL_ARGS ExpertRowsArgs args) {
  TestedMachine m;
  expert_rows(m, shared_memory<ExpertRowsShared>(), args);
}

__global__ void __launch_bounds__(kMaxThreads, 1) expert_rows_latency_kernel(XD_KERNEL_ARGS ExpertRowsArgs args) {
  TestedMachine m;
  expert_rows_latency(m, shared_memory<ExpertRowsLatencyShared>(), args);
}

template <Dtype kDtype, CombineQuant kQuant, bool kByExpert>
__global__ void __launch_bounds__(kMaxThreads, 1) combine_kernel(XD_KERNEL_ARGS CombineArgs args) {
  TestedMachine m;
  combine<kDtype, kQuant, kByExpert>(m, args);
}

#define XD_COMBINE(dtype, wire)                                                                                 \
  template __global__ void combine_kernel<Dtype::dtype, CombineQuant::wire, false>(XD_KERNEL_ARGS CombineArgs); \
  template __global__ void combine_kernel<Dtype::dtype, CombineQuant::wire, true>(XD_KERNEL_ARGS CombineArgs);
#include "kernels/launch/instances.def"
#undef XD_COMBINE

template <Dtype kDtype>
__global__ void __launch_bounds__(kMaxThreads, 1) combine_ll_kernel(XD_KERNEL_ARGS CombineArgs args) {
  TestedMachine m;
  combine_ll<kDtype>(m, args);
}

#define XD_COMBINE_LL(dtype) template __global__ void combine_ll_kernel<Dtype::dtype>(XD_KERNEL_ARGS CombineArgs);
#include "kernels/launch/ll_instances.def"
#undef XD_COMBINE_LL

}  // namespace crossdock::kernels
