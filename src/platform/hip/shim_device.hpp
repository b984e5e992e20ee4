// SPDX-License-Identifier: Apache-2.0
// The keywords of HIP, so that clang compiles it without a ROCm installation. Include this file before all others.
#pragma once

#include <cstdlib>  // declares malloc and free for clang's <new> wrapper
#include <new>

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
// As in HIP's own headers: clang ignores launch_bounds for AMD GPUs.
#define __launch_bounds__(threads, waves) \
  __attribute__((amdgpu_flat_work_group_size(1, threads), amdgpu_waves_per_eu(waves)))
#define __forceinline__ inline __attribute__((always_inline))
