// SPDX-License-Identifier: Apache-2.0
#include "platform/hip/memory.hpp"

#include <cstring>
#include <mutex>

#include "platform/device_block.hpp"
#include "platform/hip/driver.hpp"
#include "platform/pinned_pages.hpp"

namespace crossdock::platform::hip {
namespace {

std::string of_bytes(std::uint64_t bytes, int ordinal) {
  return std::to_string(bytes) + " bytes on device " + std::to_string(ordinal);
}

/// Whether the runtime still accepts calls. At exit it may have shut down already, and has then freed all memory.
bool runtime_lives() {
  int count = 0;
  return driver().get_device_count(&count) == hipSuccess;
}

/// Serialises mapping, importing and unmapping: ROCm's runtime has races between them.
std::mutex& mapping() {
  static std::mutex mutex;
  return mutex;
}

/// Fine-grained memory, allocated here or imported from another process.
class PlainBlock : public DeviceBlock {
 public:
  PlainBlock(void* data, std::uint64_t bytes, int ordinal, bool imported) : DeviceBlock(ordinal), imported_(imported) {
    data_ = static_cast<std::byte*>(data);
    bytes_ = bytes;
  }
  ~PlainBlock() override {
    if (!runtime_lives()) return;
    const Current current(ordinal_, std::nothrow);
    (void)(imported_ ? driver().ipc_close_handle(data_) : driver().free_memory(data_));
  }

  void grant(int ordinal) const override {
    if (ordinal == ordinal_) return;
    const Current current(ordinal);
    const hipError_t error = driver().enable_peer_access(ordinal_, 0);
    if (error == hipErrorPeerAccessAlreadyEnabled)
      (void)driver().get_last_error();
    else
      check(error, "peer access of device " + std::to_string(ordinal) + " to device " + std::to_string(ordinal_));
  }

 private:
  bool imported_;
};

/// An allocation of the virtual-memory interface and its mapping.
class MappedBlock : public DeviceBlock {
 public:
  MappedBlock(hipMemGenericAllocationHandle_t handle, std::uint64_t bytes, int ordinal)
      : DeviceBlock(ordinal), handle_(handle) {
    bytes_ = bytes;
    const std::lock_guard lock(mapping());
    void* address = nullptr;
    hipError_t error = driver().address_reserve(&address, bytes, 0, nullptr, 0);
    if (error == hipSuccess) {
      data_ = static_cast<std::byte*>(address);
      error = driver().map(address, bytes, 0, handle, 0);
      mapped_ = error == hipSuccess;
    }
    if (error == hipSuccess) error = set_access(ordinal);
    if (error == hipSuccess) return;
    release();
    check(error, "mapping " + of_bytes(bytes, ordinal));
  }
  ~MappedBlock() override {
    const std::lock_guard lock(mapping());
    if (runtime_lives()) release();
  }

  void grant(int ordinal) const override {
    const std::lock_guard lock(mapping());
    check(set_access(ordinal), "hipMemSetAccess for device " + std::to_string(ordinal));
  }
  hipMemGenericAllocationHandle_t handle() const { return handle_; }

 private:
  hipError_t set_access(int ordinal) const {
    hipMemAccessDesc desc{};
    desc.location.type = hipMemLocationTypeDevice;
    desc.location.id = ordinal;
    desc.flags = hipMemAccessFlagsProtReadWrite;
    return driver().set_access(data_, bytes_, &desc, 1);
  }
  void release() {
    if (mapped_) (void)driver().unmap(data_, bytes_);
    if (data_) (void)driver().address_free(data_, bytes_);
    (void)driver().mem_release(handle_);
  }

  hipMemGenericAllocationHandle_t handle_;
  bool mapped_ = false;
};

AllocationProperties properties(int ordinal) {
  AllocationProperties p{};
  p.type = hipMemAllocationTypePinned;
  p.handle_types = hipMemHandleTypePosixFileDescriptor;
  p.location_type = hipMemLocationTypeDevice;
  p.location_id = ordinal;
  return p;
}
const hipMemAllocationProp* as_hip(const AllocationProperties& p) {
  return reinterpret_cast<const hipMemAllocationProp*>(&p);
}

}  // namespace

BlockPtr allocate_plain(int ordinal, std::uint64_t bytes) {
  const Current current(ordinal);
  void* data = nullptr;
  check(driver().malloc_with_flags(&data, bytes, hipDeviceMallocFinegrained), "allocating " + of_bytes(bytes, ordinal));
  return std::make_shared<PlainBlock>(data, bytes, ordinal, false);
}

std::string export_plain(const Block& block) {
  hipIpcMemHandle_t handle{};
  check(driver().ipc_get_handle(&handle, block.data()), "hipIpcGetMemHandle");
  static_assert(sizeof handle <= 64);
  return std::string(reinterpret_cast<const char*>(&handle), sizeof handle);
}

BlockPtr import_plain(int ordinal, const std::string& handle, std::uint64_t bytes) {
  const Current current(ordinal);
  hipIpcMemHandle_t ipc{};
  std::memcpy(&ipc, handle.data(), sizeof ipc);
  void* data = nullptr;
  check(driver().ipc_open_handle(&data, ipc, kLazyPeerAccess), "hipIpcOpenMemHandle");
  return std::make_shared<PlainBlock>(data, bytes, ordinal, true);
}

std::uint64_t granularity(int ordinal) {
  const AllocationProperties wanted = properties(ordinal);
  std::size_t bytes = 0;
  check(driver().granularity(&bytes, as_hip(wanted), hipMemAllocationGranularityMinimum),
        "hipMemGetAllocationGranularity");
  return bytes;
}

BlockPtr allocate_mapped(int ordinal, std::uint64_t bytes) {
  const Current current(ordinal);
  const AllocationProperties wanted = properties(ordinal);
  hipMemGenericAllocationHandle_t handle{};
  check(driver().mem_create(&handle, bytes, as_hip(wanted), 0), "allocating " + of_bytes(bytes, ordinal));
  return std::make_shared<MappedBlock>(handle, bytes, ordinal);
}

int export_mapped(const Block& block) {
  int descriptor = -1;
  check(driver().export_handle(&descriptor, static_cast<const MappedBlock&>(block).handle(),
                               hipMemHandleTypePosixFileDescriptor, 0),
        "hipMemExportToShareableHandle");
  return descriptor;
}

BlockPtr import_mapped(int ordinal, int descriptor, std::uint64_t bytes) {
  const Current current(ordinal);
  hipMemGenericAllocationHandle_t handle{};
  void* os_handle = reinterpret_cast<void*>(static_cast<std::intptr_t>(descriptor));
  {
    const std::lock_guard lock(mapping());
    check(driver().import_handle(&handle, os_handle, hipMemHandleTypePosixFileDescriptor),
          "hipMemImportFromShareableHandle");
  }
  return std::make_shared<MappedBlock>(handle, bytes, ordinal);
}

BlockPtr allocate_pinned(int ordinal, std::uint64_t bytes) {
  const Current current(ordinal);
  void* data = pinned_pages().take(bytes);
  if (!data)
    check(driver().host_malloc(&data, bytes, hipHostMallocMapped | hipHostMallocPortable | hipHostMallocCoherent),
          "hipHostMalloc of " + std::to_string(bytes) + " bytes");
  std::memset(data, 0, bytes);
  return std::make_shared<PinnedBlock>(data, bytes);
}

}  // namespace crossdock::platform::hip
