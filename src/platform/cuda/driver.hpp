// SPDX-License-Identifier: Apache-2.0
// Error checks for CUDA calls, and the driver's functions, looked up at run time and never linked.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <new>
#include <string>

#include "crossdock/error.hpp"

namespace crossdock::platform::cuda {

/// Throws SystemError "<what> failed: <text>" unless the call succeeded, and clears the runtime's last error.
void check(cudaError_t error, const std::string& what);
void check(CUresult result, const std::string& what);

/// Functions of the driver for which the runtime has no equivalent. All null on a host without a driver.
struct Driver {
  decltype(&cuMemCreate) mem_create = nullptr;
  decltype(&cuMemRelease) mem_release = nullptr;
  decltype(&cuMemAddressReserve) address_reserve = nullptr;
  decltype(&cuMemAddressFree) address_free = nullptr;
  decltype(&cuMemMap) map = nullptr;
  decltype(&cuMemUnmap) unmap = nullptr;
  decltype(&cuMemSetAccess) set_access = nullptr;
  decltype(&cuMemExportToShareableHandle) export_handle = nullptr;
  decltype(&cuMemImportFromShareableHandle) import_handle = nullptr;
  decltype(&cuMemGetAllocationGranularity) granularity = nullptr;
  decltype(&cuPointerGetAttributes) pointer_attributes = nullptr;
  decltype(&cuDeviceGet) device_get = nullptr;
  decltype(&cuDeviceGetAttribute) device_attribute = nullptr;
  decltype(&cuDeviceGetUuid) device_uuid = nullptr;
  decltype(&cuGetErrorString) error_string = nullptr;
};

/// The driver's functions, looked up at the first call.
const Driver& driver();

/// RAII: makes a device current and restores the caller's. It calls cudaSetDevice even if the device is current
/// already: a thread that has not called the runtime has no context, which driver functions need.
class Current {
 public:
  explicit Current(int ordinal) {
    cudaGetDevice(&before_);
    check(cudaSetDevice(ordinal), "cudaSetDevice(" + std::to_string(ordinal) + ")");
    changed_ = before_ != ordinal;
  }
  /// For destructors: a failure is ignored, because throwing would end the process.
  Current(int ordinal, std::nothrow_t) {
    cudaGetDevice(&before_);
    changed_ = cudaSetDevice(ordinal) == cudaSuccess && before_ != ordinal;
  }
  ~Current() {
    if (changed_) cudaSetDevice(before_);
  }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

}  // namespace crossdock::platform::cuda
