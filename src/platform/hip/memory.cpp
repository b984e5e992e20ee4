// SPDX-License-Identifier: Apache-2.0
#include "platform/hip/memory.hpp"

#include <cstring>
#include <map>
#include <mutex>

#include "platform/hip/driver.hpp"
#include "platform/pinned_pages.hpp"

namespace crossdock::platform::hip {
namespace {

std::string of_bytes(std::uint64_t bytes, int ordinal) {
  return std::to_string(bytes) + " bytes on device " + std::to_string(ordinal);
}

/// Whether the runtime still takes calls; at the end of a process it has gone first and taken everything back.
bool runtime_lives() {
  int count = 0;
  return driver().get_device_count(&count) == hipSuccess;
}

/// Mapping, importing and unmapping one at a time: ROCm's runtime is known to mix them up between threads.
std::mutex& mapping() {
  static std::mutex mutex;
  return mutex;
}

/// What both kinds of device memory have.
class DeviceBlock : public Block {
 public:
  explicit DeviceBlock(int ordinal) : ordinal_(ordinal) {}
  virtual void grant(int ordinal) const = 0;

 protected:
  int ordinal_;
};

/// Blocks whose handles this process has given out.
class OwnHandles {
 public:
  void add(const std::string& handle, const std::shared_ptr<Block>& block) {
    const std::lock_guard lock(mutex_);
    std::erase_if(blocks_, [](const auto& entry) { return entry.second.expired(); });
    blocks_[handle] = block;
  }
  BlockPtr find(const std::string& handle) {
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(handle);
    return found == blocks_.end() ? nullptr : found->second.lock();
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<Block>> blocks_;
};

OwnHandles& own_handles() {
  static OwnHandles all;
  return all;
}

/// Fine-grained memory, own or of another process.
class PlainBlock : public DeviceBlock, public std::enable_shared_from_this<PlainBlock> {
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

class PinnedBlock : public Block {
 public:
  PinnedBlock(void* data, std::uint64_t bytes) {
    data_ = static_cast<std::byte*>(data);
    bytes_ = bytes;
  }
  ~PinnedBlock() override { pinned_pages().keep(data_, bytes_); }
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
  const std::string text(reinterpret_cast<const char*>(&handle), sizeof handle);
  own_handles().add(text,
                    std::const_pointer_cast<PlainBlock>(static_cast<const PlainBlock&>(block).shared_from_this()));
  return text;
}

BlockPtr import_plain(int ordinal, const std::string& handle, std::uint64_t bytes) {
  if (BlockPtr own = own_handles().find(handle.substr(0, sizeof(hipIpcMemHandle_t)))) {
    grant(ordinal, *own);
    return own;
  }
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

void grant(int ordinal, const Block& block) { static_cast<const DeviceBlock&>(block).grant(ordinal); }

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
