// SPDX-License-Identifier: Apache-2.0
// HIP's runtime: the one that the library's plug-in has loaded, looked up and never linked. Compiled against headers of any
// version since 5, it is used with versions 6 and 7 only: the plug-in finds no device with others.
#pragma once

#ifndef __HIP_PLATFORM_AMD__
#define __HIP_PLATFORM_AMD__ 1
#endif
#ifndef __HIP_DISABLE_CPP_FUNCTIONS__
#define __HIP_DISABLE_CPP_FUNCTIONS__  // overloads whose address could not be taken
#endif
#include <hip/hip_runtime_api.h>

#include <string>
#include <vector>

#include "gpu/methods.hpp"
#include "gpu/runtime.hpp"

/* Beside XD_RUNTIME_FUNCTIONS */
#define XD_HIP_OWN_FUNCTIONS(X)      \
  X(DeviceGetName)                   \
  X(DeviceGetAttribute)              \
  X(RuntimeGetVersion)               \
  X(ExtMallocWithFlags)              \
  X(HostMalloc)                      \
  X(HostFree)                        \
  X(StreamGetCaptureInfo_v2)         \
  X(StreamUpdateCaptureDependencies) \
  X(GraphAddEventRecordNode)         \
  X(ModuleLoadData)                  \
  X(ModuleGetFunction)               \
  X(ModuleLaunchKernel)

namespace crossdock::tools::hip {

template <auto* kFunction>
using PointerTo = decltype(kFunction);

struct Runtime {
  using Error = hipError_t;
  using Stream = hipStream_t;
  using Event = hipEvent_t;
  using Graph = hipGraph_t;
  using GraphExec = hipGraphExec_t;
  using MemPool = hipMemPool_t;
  using CaptureStatus = hipStreamCaptureStatus;

#define XD_MEMBER(name) static inline PointerTo<hip##name> name = nullptr;
  XD_RUNTIME_FUNCTIONS(XD_MEMBER)
  XD_HIP_OWN_FUNCTIONS(XD_MEMBER)
#undef XD_MEMBER
  static inline hipError_t (*MallocAsync)(void**, std::size_t, hipStream_t) = nullptr;  // overloaded in the headers

  static constexpr BackendKind kKind = BackendKind::hip;
  static constexpr const char* kVisible = "HIP_VISIBLE_DEVICES";
  static constexpr int kWidth = 64;  // threads of a wave
  static constexpr auto kCopy = hipMemcpyDefault;
  static constexpr auto kCaptureMode = hipStreamCaptureModeThreadLocal;
  static constexpr unsigned kNonBlocking = hipStreamNonBlocking;
  static constexpr auto kReleaseThreshold = hipMemPoolAttrReleaseThreshold;

  /// Looks everything up; empty, or why there is no runtime with a device. First of all to be called.
  static std::string problem();
  static std::string name_of(int device);
  static std::string driver();
  static int num_sms(int device);

  /// Memory that kernels of peers read and write while they run: fine-grained, as the library's.
  static Error malloc_for_peers(void** data, std::size_t bytes) {
    return ExtMallocWithFlags(data, bytes, hipDeviceMallocFinegrained);
  }
  /// Memory of the host that running kernels of every device see.
  static Error malloc_host(void** data, std::size_t bytes) {
    return HostMalloc(data, bytes, hipHostMallocMapped | hipHostMallocPortable | hipHostMallocCoherent);
  }
  static Error free_host(void* data) { return HostFree(data); }
  /// Records an event whose time can be asked for, in a capture too.
  static Error record(Event event, Stream stream);
  /// HIP's upload is younger than the oldest headers; whoever measures replays once before.
  static Error upload(GraphExec, Stream) { return hipSuccess; }
  /// `arguments`: what the list of kernels says.
  static Error launch(gpu::Kernel kernel, int blocks, int threads, Stream stream, const void* arguments);
  /// Loads all of them on the current device, before any runs.
  static Error load_kernels(int device);
  /// Ways to a peer that other vendors have not.
  static std::vector<gpu::Method> own_methods(int) { return {}; }
};

inline void check(hipError_t error, const char* what) { gpu::check<Runtime>(error, what); }

}  // namespace crossdock::tools::hip
