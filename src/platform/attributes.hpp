// SPDX-License-Identifier: Apache-2.0
// XD_FN marks every function that a kernel body may call: device code on GPUs, always inlined. XD_UNROLL(n) before a
// loop unrolls it n times.
#pragma once

#if defined(__CUDACC__) || defined(__HIP__)
#define XD_FN __device__ __forceinline__
#else
#define XD_FN inline __attribute__((always_inline))
#endif

#define XD_PRAGMA(text) _Pragma(#text)
#if defined(__CUDA_ARCH__)
#define XD_UNROLL(n) XD_PRAGMA(unroll n)
#elif defined(__CUDACC__)  // the host's pass over a kernel file
#define XD_UNROLL(n)
#elif defined(__clang__)
#define XD_UNROLL(n) XD_PRAGMA(clang loop unroll_count(n))
#else
#define XD_UNROLL(n) XD_PRAGMA(GCC unroll n)
#endif
