// SPDX-License-Identifier: Apache-2.0
// CUDA calls with their refusals as errors, and the driver's functions, looked up and never linked.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <new>
#include <string>

#include "crossdock/error.hpp"

namespace crossdock::platform::cuda {

/// Throws SystemError "<what> failed: <text>" and leaves no sticky error behind.
void check(cudaError_t error, const std::string& what);
void check(CUresult result, const std::string& what);

/// Functions of the driver that the runtime does not offer. Null members where there is no driver.
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

const Driver& driver();

/// Makes a device current for a scope and gives the caller's back. Also where it is the caller's already: a thread that has
/// not spoken to the runtime has no context, and functions of the driver need one.
class Current {
 public:
  explicit Current(int ordinal) {
    cudaGetDevice(&before_);
    check(cudaSetDevice(ordinal), "cudaSetDevice(" + std::to_string(ordinal) + ")");
    changed_ = before_ != ordinal;
  }
  /// For destructors: a device that can no longer be used is no reason to end the process.
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
