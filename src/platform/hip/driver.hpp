// SPDX-License-Identifier: Apache-2.0
// The HIP runtime, loaded with dlopen and never linked, so the plug-in loads on hosts without it. It runs with versions
// 6 and 7, the first that support gfx942 and gfx950, and compiles with headers of version 5 too. Some types changed
// after version 5. hipDeviceProp_t and hipPointerAttribute_t are not used; hipMemAllocationProp is declared below as in
// 6 and 7.
#pragma once

#ifndef __HIP_PLATFORM_AMD__
#define __HIP_PLATFORM_AMD__ 1
#endif
#define __HIP_DISABLE_CPP_FUNCTIONS__  // C++ overloads would make the addresses of functions ambiguous
#include <hip/hip_runtime_api.h>

#include <cstddef>
#include <new>
#include <string>

#include "crossdock/error.hpp"

namespace crossdock::platform::hip {

/// X(member of Driver, function of the runtime).
#define XD_HIP_FUNCTIONS(X)                             \
  X(get_device_count, hipGetDeviceCount)                \
  X(get_device, hipGetDevice)                           \
  X(set_device, hipSetDevice)                           \
  X(device_attribute, hipDeviceGetAttribute)            \
  X(device_name, hipDeviceGetName)                      \
  X(device_uuid, hipDeviceGetUuid)                      \
  X(can_access_peer, hipDeviceCanAccessPeer)            \
  X(enable_peer_access, hipDeviceEnablePeerAccess)      \
  X(get_last_error, hipGetLastError)                    \
  X(error_name, hipGetErrorName)                        \
  X(error_text, hipGetErrorString)                      \
  X(runtime_version, hipRuntimeGetVersion)              \
  X(malloc_with_flags, hipExtMallocWithFlags)           \
  X(free_memory, hipFree)                               \
  X(host_malloc, hipHostMalloc)                         \
  X(ipc_get_handle, hipIpcGetMemHandle)                 \
  X(ipc_open_handle, hipIpcOpenMemHandle)               \
  X(ipc_close_handle, hipIpcCloseMemHandle)             \
  X(mem_create, hipMemCreate)                           \
  X(mem_release, hipMemRelease)                         \
  X(address_reserve, hipMemAddressReserve)              \
  X(address_free, hipMemAddressFree)                    \
  X(map, hipMemMap)                                     \
  X(unmap, hipMemUnmap)                                 \
  X(set_access, hipMemSetAccess)                        \
  X(granularity, hipMemGetAllocationGranularity)        \
  X(export_handle, hipMemExportToShareableHandle)       \
  X(import_handle, hipMemImportFromShareableHandle)     \
  X(pointer_attribute, hipPointerGetAttribute)          \
  X(copy_async, hipMemcpyAsync)                         \
  X(set_async, hipMemsetAsync)                          \
  X(stream_priorities, hipDeviceGetStreamPriorityRange) \
  X(stream_create, hipStreamCreateWithPriority)         \
  X(stream_destroy, hipStreamDestroy)                   \
  X(stream_synchronize, hipStreamSynchronize)           \
  X(stream_is_capturing, hipStreamIsCapturing)          \
  X(stream_device, hipGetStreamDeviceId)                \
  X(capture_mode, hipThreadExchangeStreamCaptureMode)   \
  X(event_create, hipEventCreateWithFlags)              \
  X(event_record, hipEventRecord)                       \
  X(event_query, hipEventQuery)                         \
  X(event_destroy, hipEventDestroy)                     \
  X(module_load, hipModuleLoadData)                     \
  X(module_function, hipModuleGetFunction)              \
  X(module_launch, hipModuleLaunchKernel)               \
  X(resident_blocks, hipModuleOccupancyMaxActiveBlocksPerMultiprocessor)

template <auto* kFunction>
using PointerTo = decltype(kFunction);

struct Driver {
  std::string problem;  ///< the reason why the runtime cannot be used; empty: no member below is null
#define XD_MEMBER(member, function) PointerTo<function> member = nullptr;
  XD_HIP_FUNCTIONS(XD_MEMBER)
#undef XD_MEMBER
};

/// The runtime, loaded at the first call. A runtime that the process has already loaded, of any version, is preferred.
const Driver& driver();

/// Oldest major version that is accepted.
inline constexpr int kOldestMajor = 6;

/// The layout of hipMemAllocationProp in versions 6 and 7.
struct AllocationProperties {
  int type, handle_types, location_type, location_id;
  void* of_windows;
  unsigned char compression, rdma_capable;
  unsigned short usage;
};
inline constexpr int kDeviceMemory = 2;         ///< hipMemoryTypeDevice
inline constexpr unsigned kLazyPeerAccess = 1;  ///< hipIpcMemLazyEnablePeerAccess
inline constexpr auto kWallClockRate = static_cast<hipDeviceAttribute_t>(10'017);
#if HIP_VERSION_MAJOR >= 6
static_assert(kDeviceMemory == hipMemoryTypeDevice && kLazyPeerAccess == hipIpcMemLazyEnablePeerAccess &&
              kWallClockRate == hipDeviceAttributeWallClockRate);
static_assert(sizeof(AllocationProperties) == sizeof(hipMemAllocationProp));
static_assert(offsetof(AllocationProperties, location_type) == offsetof(hipMemAllocationProp, location));
static_assert(offsetof(AllocationProperties, of_windows) == offsetof(hipMemAllocationProp, win32HandleMetaData));
#endif

/// Number of devices; 0 with the reason in `*note`, which has static storage.
int num_devices(const char** note);

/// Throws SystemError "<what> failed: <text>" unless `error` is hipSuccess, and clears the runtime's last error.
void check(hipError_t error, const std::string& what);

/// RAII: makes a device current and restores the caller's.
class Current {
 public:
  explicit Current(int ordinal) {
    check(driver().get_device(&before_), "hipGetDevice");
    if (before_ != ordinal) check(driver().set_device(ordinal), "hipSetDevice(" + std::to_string(ordinal) + ")");
    changed_ = before_ != ordinal;
  }
  /// For destructors: a failure is ignored.
  Current(int ordinal, std::nothrow_t) {
    changed_ =
        driver().get_device(&before_) == hipSuccess && before_ != ordinal && driver().set_device(ordinal) == hipSuccess;
  }
  ~Current() {
    if (changed_) (void)driver().set_device(before_);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

}  // namespace crossdock::platform::hip
