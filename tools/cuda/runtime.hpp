// SPDX-License-Identifier: Apache-2.0
// CUDA's runtime, linked statically; what needs a driver asks at run time.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <vector>

#include "cuda/launch.hpp"
#include "gpu/runtime.hpp"

namespace crossdock::tools::cuda {

struct Runtime {
  using Error = cudaError_t;
  using Stream = cudaStream_t;
  using Event = cudaEvent_t;
  using Graph = cudaGraph_t;
  using GraphExec = cudaGraphExec_t;
  using MemPool = cudaMemPool_t;
  using CaptureStatus = cudaStreamCaptureStatus;

#define XD_MEMBER(name) static constexpr auto name = &::cuda##name;
  XD_RUNTIME_FUNCTIONS(XD_MEMBER)
#undef XD_MEMBER

  static constexpr BackendKind kKind = BackendKind::cuda;
  static constexpr const char* kVisible = "CUDA_VISIBLE_DEVICES";
  static constexpr int kWidth = 32;  // threads of a warp
  static constexpr auto kCopy = cudaMemcpyDefault;
  static constexpr auto kCaptureMode = cudaStreamCaptureModeThreadLocal;
  static constexpr unsigned kNonBlocking = cudaStreamNonBlocking;
  static constexpr auto kReleaseThreshold = cudaMemPoolAttrReleaseThreshold;

  /// Empty: there is always a runtime. First of all to be called: links what loads kernels early (runtime.cpp).
  static std::string problem();
  static std::string name_of(int device);
  static std::string driver();
  static int num_sms(int device);

  static constexpr auto MallocAsync = &::cudaMallocAsync;
  /// Memory that kernels of peers read and write while they run.
  static Error malloc_for_peers(void** data, std::size_t bytes) { return cudaMalloc(data, bytes); }
  /// Memory of the host that running kernels of every device see.
  static Error malloc_host(void** data, std::size_t bytes) {
    return cudaHostAlloc(data, bytes, cudaHostAllocMapped | cudaHostAllocPortable);
  }
  static Error free_host(void* data) { return cudaFreeHost(data); }
  /// Records an event whose time can be asked for, in a capture too.
  static Error record(Event event, Stream stream);
  static Error upload(GraphExec graph, Stream stream) { return cudaGraphUpload(graph, stream); }
  static constexpr auto launch = &cuda::launch;
  static constexpr auto load_kernels = &cuda::load_kernels;
  /// Ways to a peer that other vendors have not.
  static constexpr auto own_methods = &bulk_methods;
};

inline void check(cudaError_t error, const char* what) { gpu::check<Runtime>(error, what); }

}  // namespace crossdock::tools::cuda
