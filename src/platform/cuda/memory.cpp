// SPDX-License-Identifier: Apache-2.0
#include "platform/cuda/memory.hpp"

#include <cstring>
#include <mutex>

#include "platform/cuda/driver.hpp"
#include "platform/device_block.hpp"
#include "platform/pinned_pages.hpp"

namespace crossdock::platform::cuda {
namespace {

/// Serialises mapping and unmapping: with driver 580.159, four threads that map and unmap at once crash in cuMemUnmap.
std::mutex& mapping() {
  static std::mutex mutex;
  return mutex;
}

CUmemAllocationProp properties(int ordinal) {
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = ordinal;
  prop.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  return prop;
}

/// An allocation of the virtual-memory interface and its mapping.
class MappedBlock : public DeviceBlock {
 public:
  MappedBlock(CUmemGenericAllocationHandle handle, std::uint64_t bytes, int ordinal)
      : DeviceBlock(ordinal), handle_(handle) {
    bytes_ = bytes;
    const std::lock_guard lock(mapping());
    CUdeviceptr address = 0;
    CUresult result = driver().address_reserve(&address, bytes, 0, 0, 0);
    if (result == CUDA_SUCCESS) {
      data_ = reinterpret_cast<std::byte*>(address);
      result = driver().map(address, bytes, 0, handle, 0);
      mapped_ = result == CUDA_SUCCESS;
    }
    if (result == CUDA_SUCCESS) result = set_access(ordinal);
    if (result == CUDA_SUCCESS) return;
    release();
    check(result, "mapping " + std::to_string(bytes) + " bytes on device " + std::to_string(ordinal));
  }
  ~MappedBlock() override {
    const std::lock_guard lock(mapping());
    release();
  }

  void grant(int ordinal) const override {
    const Current current(ordinal);
    const std::lock_guard lock(mapping());
    check(set_access(ordinal), "cuMemSetAccess for device " + std::to_string(ordinal));
  }
  CUmemGenericAllocationHandle handle() const { return handle_; }

 private:
  CUresult set_access(int ordinal) const {
    CUmemAccessDesc desc{};
    desc.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    desc.location.id = ordinal;
    desc.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return driver().set_access(address(), bytes_, &desc, 1);
  }
  CUdeviceptr address() const { return reinterpret_cast<CUdeviceptr>(data_); }
  void release() {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) return;  // the driver has shut down and freed all memory
    const Current current(ordinal_, std::nothrow);
    if (mapped_) driver().unmap(address(), bytes_);
    if (data_) driver().address_free(address(), bytes_);
    driver().mem_release(handle_);
  }

  CUmemGenericAllocationHandle handle_;
  bool mapped_ = false;
};

/// cudaMalloc memory, allocated here or imported from another process.
class PlainBlock : public DeviceBlock {
 public:
  PlainBlock(void* data, std::uint64_t bytes, int ordinal, bool imported) : DeviceBlock(ordinal), imported_(imported) {
    data_ = static_cast<std::byte*>(data);
    bytes_ = bytes;
  }
  ~PlainBlock() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) return;
    const Current current(ordinal_, std::nothrow);
    imported_ ? cudaIpcCloseMemHandle(data_) : cudaFree(data_);
  }

  void grant(int ordinal) const override {
    if (ordinal == ordinal_) return;
    const Current current(ordinal);
    const cudaError_t error = cudaDeviceEnablePeerAccess(ordinal_, 0);
    if (error == cudaErrorPeerAccessAlreadyEnabled)
      (void)cudaGetLastError();
    else
      check(error, "peer access of device " + std::to_string(ordinal) + " to device " + std::to_string(ordinal_));
  }

 private:
  bool imported_;
};

}  // namespace

bool exports_descriptors(int ordinal) {
  CUdevice device = 0;
  check(driver().device_get(&device, ordinal), "cuDeviceGet");
  for (const CUdevice_attribute needed : {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                                          CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED}) {
    int is_there = 0;
    check(driver().device_attribute(&is_there, needed, device), "cuDeviceGetAttribute");
    if (!is_there) return false;
  }
  return true;
}

std::uint64_t granularity(int ordinal) {
  const CUmemAllocationProp prop = properties(ordinal);
  std::size_t bytes = 0;
  check(driver().granularity(&bytes, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM), "cuMemGetAllocationGranularity");
  return bytes;
}

BlockPtr allocate_mapped(int ordinal, std::uint64_t bytes) {
  Current current(ordinal);
  const CUmemAllocationProp prop = properties(ordinal);
  CUmemGenericAllocationHandle handle = 0;
  check(driver().mem_create(&handle, bytes, &prop, 0),
        "allocating " + std::to_string(bytes) + " bytes on device " + std::to_string(ordinal));
  return std::make_shared<MappedBlock>(handle, bytes, ordinal);
}

int export_mapped(const Block& block) {  // needs a context: the caller has just allocated the block in this thread
  int descriptor = -1;
  check(driver().export_handle(&descriptor, static_cast<const MappedBlock&>(block).handle(),
                               CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
        "cuMemExportToShareableHandle");
  return descriptor;
}

BlockPtr import_mapped(int ordinal, int descriptor, std::uint64_t bytes) {
  Current current(ordinal);
  CUmemGenericAllocationHandle handle = 0;
  check(driver().import_handle(&handle, reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor)),
                               CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
        "cuMemImportFromShareableHandle");
  return std::make_shared<MappedBlock>(handle, bytes, ordinal);
}

BlockPtr allocate_plain(int ordinal, std::uint64_t bytes) {
  Current current(ordinal);
  void* data = nullptr;
  check(cudaMalloc(&data, bytes),
        "cudaMalloc of " + std::to_string(bytes) + " bytes on device " + std::to_string(ordinal));
  return std::make_shared<PlainBlock>(data, bytes, ordinal, false);
}

std::string export_plain(const Block& block) {
  cudaIpcMemHandle_t handle{};
  check(cudaIpcGetMemHandle(&handle, block.data()), "cudaIpcGetMemHandle");
  static_assert(sizeof handle <= 64);
  return std::string(reinterpret_cast<const char*>(&handle), sizeof handle);
}

BlockPtr import_plain(int ordinal, const std::string& handle, std::uint64_t bytes) {
  Current current(ordinal);
  cudaIpcMemHandle_t ipc{};
  std::memcpy(&ipc, handle.data(), sizeof ipc);
  void* data = nullptr;
  check(cudaIpcOpenMemHandle(&data, ipc, cudaIpcMemLazyEnablePeerAccess), "cudaIpcOpenMemHandle");
  return std::make_shared<PlainBlock>(data, bytes, ordinal, true);
}

BlockPtr allocate_pinned(int ordinal, std::uint64_t bytes) {
  Current current(ordinal);
  void* data = pinned_pages().take(bytes);
  if (!data)
    check(cudaHostAlloc(&data, bytes, cudaHostAllocMapped | cudaHostAllocPortable),
          "cudaHostAlloc of " + std::to_string(bytes) + " bytes");
  std::memset(data, 0, bytes);
  return std::make_shared<PinnedBlock>(data, bytes);
}

}  // namespace crossdock::platform::cuda
