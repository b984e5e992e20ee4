// SPDX-License-Identifier: Apache-2.0
// What clang needs to compile HIP without a ROCm installation: the attributes, by name. Include it before anything else.
#pragma once

#include <cstdlib>  // clang's own <new> for HIP wants malloc and free declared
#include <new>

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
// As HIP's own headers say it; clang takes no notice of launch_bounds for AMD GPUs.
#define __launch_bounds__(threads, waves) \
  __attribute__((amdgpu_flat_work_group_size(1, threads), amdgpu_waves_per_eu(waves)))
#define __forceinline__ inline __attribute__((always_inline))
