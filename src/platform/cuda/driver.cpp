// SPDX-License-Identifier: Apache-2.0
#include "platform/cuda/driver.hpp"

namespace crossdock::platform::cuda {
namespace {

template <class Function>
void look_up(const char* name, Function& function) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (cudaGetDriverEntryPointByVersion(name, &found, 12000, cudaEnableDefault, &result) == cudaSuccess &&
      result == cudaDriverEntryPointSuccess)
    function = reinterpret_cast<Function>(found);
  else
    (void)cudaGetLastError();
}

Driver look_up_all() {
  Driver d;
  look_up("cuMemCreate", d.mem_create);
  look_up("cuMemRelease", d.mem_release);
  look_up("cuMemAddressReserve", d.address_reserve);
  look_up("cuMemAddressFree", d.address_free);
  look_up("cuMemMap", d.map);
  look_up("cuMemUnmap", d.unmap);
  look_up("cuMemSetAccess", d.set_access);
  look_up("cuMemExportToShareableHandle", d.export_handle);
  look_up("cuMemImportFromShareableHandle", d.import_handle);
  look_up("cuMemGetAllocationGranularity", d.granularity);
  look_up("cuPointerGetAttributes", d.pointer_attributes);
  look_up("cuDeviceGet", d.device_get);
  look_up("cuDeviceGetAttribute", d.device_attribute);
  look_up("cuDeviceGetUuid", d.device_uuid);
  look_up("cuGetErrorString", d.error_string);
  return d;
}

}  // namespace

const Driver& driver() {
  static const Driver all = look_up_all();
  return all;
}

void check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();
  throw SystemError(what + " failed: " + cudaGetErrorString(error) + " (CUDA error " + std::to_string(error) + ")");
}

void check(CUresult result, const std::string& what) {
  if (result == CUDA_SUCCESS) return;
  const char* text = nullptr;
  if (driver().error_string) driver().error_string(result, &text);
  throw SystemError(what + " failed: " + (text ? text : "unknown") + " (driver error " + std::to_string(result) + ")");
}

}  // namespace crossdock::platform::cuda
