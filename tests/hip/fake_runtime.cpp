// SPDX-License-Identifier: Apache-2.0
// A libamdhip64.so for tests of the host half where no AMD GPU is: devices are this process, memory is shared pages, and
// a launched kernel is the same body on fibers with 64 lanes. It refuses what the real runtime documents as an error, and
// what the option of that name asks for (fake_runtime.hpp). It shows that the host half calls in the right order with the
// right values. It says nothing of device code, caches, links, or of what the real runtime does beyond its documentation.
#include "hip/fake_runtime.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "hip/fake_state.hpp"

using namespace crossdock::testing::fake;
using crossdock::platform::hip::AllocationProperties;

struct ihipMemGenericAllocationHandle {
  int fd;
  std::size_t bytes;
};
struct ihipMemPoolHandle_t {};

namespace {

struct IpcHandle {
  char mark[8];
  int pid, fd;
  std::size_t bytes;
};

int live_handles;
ihipMemPoolHandle_t pool;

int num_devices() { return static_cast<int>(option("devices", 2)); }
std::size_t used_on(int device) {
  std::size_t used = 0;
  for (const auto& [at, m] : memories) used += m.device == device && m.kind == Kind::device ? m.bytes : 0;
  return used;
}

}  // namespace

namespace crossdock::testing::fake {

/// Number behind `name=` in FAKE_HIP.
long option(const std::string& name, long standard) {
  const char* all = std::getenv("FAKE_HIP");
  std::istringstream words(all ? all : "");
  for (std::string word; words >> word;)
    if (word.rfind(name + "=", 0) == 0) return std::strtol(word.c_str() + name.size() + 1, nullptr, 0);
  return standard;
}

std::map<char*, Memory>::iterator find(const void* pointer) {
  auto after = memories.upper_bound(static_cast<char*>(const_cast<void*>(pointer)));
  if (after == memories.begin()) return memories.end();
  --after;
  return static_cast<const char*>(pointer) < after->first + after->second.bytes ? after : memories.end();
}

/// New pages that are not zero, as real memory.
hipError_t make_memory(void** out, std::size_t bytes, Kind kind, bool shareable) {
  const std::lock_guard lock(mutex);
  if (used_on(current) + bytes > static_cast<std::size_t>(option("memory", 1L << 30))) return fail(hipErrorOutOfMemory);
  const int fd = shareable ? ::memfd_create("fake_hip", MFD_CLOEXEC) : -1;
  if (shareable && (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0)) return fail(hipErrorOutOfMemory);
  *out = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, shareable ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
  std::memset(*out, 0xa5, bytes);
  memories[static_cast<char*>(*out)] = {kind, bytes, current, fd, {current}};
  return hipSuccess;
}

hipError_t drop_memory(void* pointer, Kind kind) {
  const std::lock_guard lock(mutex);
  const auto found = memories.find(static_cast<char*>(pointer));
  if (found == memories.end() || found->second.kind != kind) return fail(hipErrorInvalidValue);
  ::munmap(pointer, found->second.bytes);
  ::close(found->second.fd);
  memories.erase(found);
  return hipSuccess;
}

}  // namespace crossdock::testing::fake

// ---- devices -----------------------------------------------------------------------------------------------------

XD_EXPORT hipError_t hipGetDeviceCount(int* count) {
  *count = num_devices();
  return *count > 0 ? hipSuccess : fail(hipErrorNoDevice);
}
XD_EXPORT hipError_t hipGetDevice(int* device) { return *device = current, hipSuccess; }
XD_EXPORT hipError_t hipSetDevice(int device) {
  if (device < 0 || device >= num_devices()) return fail(hipErrorInvalidDevice);
  return current = device, hipSuccess;
}
XD_EXPORT hipError_t hipRuntimeGetVersion(int* version) {
  return *version = static_cast<int>(option("version", 60'300'000)), hipSuccess;
}
XD_EXPORT hipError_t hipDeviceGetName(char* name, int length, hipDevice_t) {
  std::strncpy(name, "AMD Instinct of cardboard", static_cast<std::size_t>(length));
  return hipSuccess;
}
XD_EXPORT hipError_t hipDeviceGetUuid(hipUUID* uuid, hipDevice_t device) {
  std::snprintf(uuid->bytes, sizeof uuid->bytes, "fake GPU %d", device);
  return hipSuccess;
}
XD_EXPORT hipError_t hipDeviceGetAttribute(int* value, hipDeviceAttribute_t which, int device) {
  if (device < 0 || device >= num_devices()) return fail(hipErrorInvalidDevice);
  switch (static_cast<int>(which)) {
    case hipDeviceAttributeComputeCapabilityMajor:
      *value = static_cast<int>(option("major", 9));
      return hipSuccess;
    case hipDeviceAttributeComputeCapabilityMinor:
      *value = static_cast<int>(option("minor", 4));
      return hipSuccess;
    case hipDeviceAttributeMultiprocessorCount:
      *value = static_cast<int>(option("cus", 3));
      return hipSuccess;
    case hipDeviceAttributeMaxThreadsPerBlock:
      *value = static_cast<int>(option("threads", 128));
      return hipSuccess;
    case hipDeviceAttributeWarpSize:
      *value = static_cast<int>(option("width", 64));
      return hipSuccess;
    case crossdock::platform::hip::kWallClockRate:
      *value = static_cast<int>(option("khz", 100'000));
      return hipSuccess;
  }
  return fail(hipErrorInvalidValue);
}
XD_EXPORT hipError_t hipDeviceCanAccessPeer(int* can, int from, int to) {
  return *can = from != to && option("peer", 1), hipSuccess;
}
XD_EXPORT hipError_t hipDeviceEnablePeerAccess(int to, unsigned int) {
  const std::lock_guard lock(mutex);
  if (to == current || !option("peer", 1)) return fail(hipErrorPeerAccessUnsupported);
  return peers.emplace(current, to).second ? hipSuccess : fail(hipErrorPeerAccessAlreadyEnabled);
}

// ---- errors ------------------------------------------------------------------------------------------------------

XD_EXPORT hipError_t hipGetLastError() {
  const hipError_t error = last;
  last = hipSuccess;
  return error;
}
XD_EXPORT hipError_t hipPeekAtLastError() { return last; }
XD_EXPORT const char* hipGetErrorName(hipError_t error) {
  return error == hipErrorOutOfMemory      ? "hipErrorOutOfMemory"
         : error == hipErrorNoBinaryForGpu ? "hipErrorNoBinaryForGpu"
         : error == hipErrorLaunchFailure  ? "hipErrorLaunchFailure"
                                           : "hipErrorOther";
}
XD_EXPORT const char* hipGetErrorString(hipError_t error) {
  return error == hipErrorOutOfMemory ? "out of memory" : "an error";
}

// ---- memory ------------------------------------------------------------------------------------------------------

XD_EXPORT hipError_t hipExtMallocWithFlags(void** out, std::size_t bytes, unsigned int flags) {
  return flags == hipDeviceMallocFinegrained ? make_memory(out, bytes, Kind::device) : fail(hipErrorInvalidValue);
}
XD_EXPORT hipError_t hipFree(void* pointer) { return drop_memory(pointer, Kind::device); }
XD_EXPORT hipError_t hipMemPoolSetAttribute(hipMemPool_t, hipMemPoolAttr, void*) { return hipSuccess; }
XD_EXPORT hipError_t hipMallocAsync(void** out, std::size_t bytes, hipStream_t) {
  return make_memory(out, bytes, Kind::device, false);  // of a pool: without a handle
}
XD_EXPORT hipError_t hipFreeAsync(void* pointer, hipStream_t stream) {
  return enqueue(stream, [pointer] { (void)drop_memory(pointer, Kind::device); });
}
XD_EXPORT hipError_t hipMemGetInfo(std::size_t* free, std::size_t* total) {
  const std::lock_guard lock(mutex);
  *total = static_cast<std::size_t>(option("memory", 1L << 30));
  return *free = *total - used_on(current), hipSuccess;
}
XD_EXPORT hipError_t hipDeviceGetDefaultMemPool(hipMemPool_t* out, int) { return *out = &pool, hipSuccess; }
XD_EXPORT hipError_t hipMemPoolTrimTo(hipMemPool_t, std::size_t) { return hipSuccess; }
XD_EXPORT hipError_t hipHostMalloc(void** out, std::size_t bytes, unsigned int) {
  return make_memory(out, bytes, Kind::host);
}
XD_EXPORT hipError_t hipHostFree(void* pointer) { return drop_memory(pointer, Kind::host); }

XD_EXPORT hipError_t hipIpcGetMemHandle(hipIpcMemHandle_t* out, void* pointer) {
  const std::lock_guard lock(mutex);
  const auto found = memories.find(static_cast<char*>(pointer));
  if (found == memories.end() || found->second.kind != Kind::device || found->second.fd < 0)
    return fail(hipErrorInvalidValue);
  const IpcHandle handle{"fakehip", ::getpid(), found->second.fd, found->second.bytes};
  std::memset(out, 0, sizeof *out);
  std::memcpy(out, &handle, sizeof handle);
  return hipSuccess;
}
XD_EXPORT hipError_t hipIpcOpenMemHandle(void** out, hipIpcMemHandle_t in, unsigned int flags) {
  IpcHandle handle;
  std::memcpy(&handle, &in, sizeof handle);
  if (flags != 1 || std::strcmp(handle.mark, "fakehip") != 0) return fail(hipErrorInvalidValue);
  if (handle.pid == ::getpid()) return fail(hipErrorInvalidContext);  // as the real one
  const std::string path = "/proc/" + std::to_string(handle.pid) + "/fd/" + std::to_string(handle.fd);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return fail(hipErrorMapFailed);
  *out = ::mmap(nullptr, handle.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const std::lock_guard lock(mutex);
  memories[static_cast<char*>(*out)] = {Kind::imported, handle.bytes, current, fd, {current}};
  return hipSuccess;
}
XD_EXPORT hipError_t hipIpcCloseMemHandle(void* pointer) { return drop_memory(pointer, Kind::imported); }

XD_EXPORT hipError_t hipMemGetAllocationGranularity(std::size_t* bytes, const hipMemAllocationProp*,
                                                    hipMemAllocationGranularity_flags) {
  return *bytes = static_cast<std::size_t>(option("granularity", 2 << 20)), hipSuccess;
}
XD_EXPORT hipError_t hipMemCreate(hipMemGenericAllocationHandle_t* out, std::size_t bytes,
                                  const hipMemAllocationProp* prop, unsigned long long) {
  const auto& p = *reinterpret_cast<const AllocationProperties*>(prop);
  if (p.type != 1 || p.handle_types != 1 || p.location_type != 1 || p.location_id != current)
    return fail(hipErrorInvalidValue);
  if (bytes % static_cast<std::size_t>(option("granularity", 2 << 20)) != 0) return fail(hipErrorInvalidValue);
  if (bytes > static_cast<std::size_t>(option("memory", 1L << 30))) return fail(hipErrorOutOfMemory);
  const int fd = ::memfd_create("fake_hip_vmm", MFD_CLOEXEC);
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) return fail(hipErrorOutOfMemory);
  const std::lock_guard lock(mutex);
  ++live_handles;
  return *out = new ihipMemGenericAllocationHandle{fd, bytes}, hipSuccess;
}
XD_EXPORT hipError_t hipMemRelease(hipMemGenericAllocationHandle_t handle) {
  const std::lock_guard lock(mutex);
  --live_handles;
  ::close(handle->fd);
  return delete handle, hipSuccess;
}
XD_EXPORT hipError_t hipMemExportToShareableHandle(void* out, hipMemGenericAllocationHandle_t handle,
                                                   hipMemAllocationHandleType type, unsigned long long) {
  if (type != hipMemHandleTypePosixFileDescriptor) return fail(hipErrorInvalidValue);
  return *static_cast<int*>(out) = ::fcntl(handle->fd, F_DUPFD_CLOEXEC, 0), hipSuccess;
}
XD_EXPORT hipError_t hipMemImportFromShareableHandle(hipMemGenericAllocationHandle_t* out, void* os_handle,
                                                     hipMemAllocationHandleType) {
  const int fd = ::fcntl(static_cast<int>(reinterpret_cast<std::intptr_t>(os_handle)), F_DUPFD_CLOEXEC, 0);
  struct stat status {};
  if (fd < 0 || ::fstat(fd, &status) != 0) return fail(hipErrorInvalidValue);
  const std::lock_guard lock(mutex);
  ++live_handles;
  return *out = new ihipMemGenericAllocationHandle{fd, static_cast<std::size_t>(status.st_size)}, hipSuccess;
}
XD_EXPORT hipError_t hipMemAddressReserve(void** out, std::size_t bytes, std::size_t, void*, unsigned long long) {
  *out = ::mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const std::lock_guard lock(mutex);
  memories[static_cast<char*>(*out)] = {Kind::reserved, bytes, current, -1, {}};
  return hipSuccess;
}
XD_EXPORT hipError_t hipMemAddressFree(void* pointer, std::size_t) { return drop_memory(pointer, Kind::reserved); }
XD_EXPORT hipError_t hipMemMap(void* at, std::size_t bytes, std::size_t offset, hipMemGenericAllocationHandle_t handle,
                               unsigned long long) {
  if (bytes > handle->bytes || option("map", 1) == 0) return fail(hipErrorMapFailed);
  const void* mapped = ::mmap(at, bytes, PROT_NONE, MAP_SHARED | MAP_FIXED, handle->fd, static_cast<off_t>(offset));
  return mapped == at ? hipSuccess : fail(hipErrorMapFailed);
}
XD_EXPORT hipError_t hipMemUnmap(void* at, std::size_t bytes) {
  ::mmap(at, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return hipSuccess;
}
XD_EXPORT hipError_t hipMemSetAccess(void* at, std::size_t bytes, const hipMemAccessDesc* desc, std::size_t) {
  const std::lock_guard lock(mutex);
  memories.at(static_cast<char*>(at)).users.insert(desc->location.id);
  return ::mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0 ? hipSuccess : fail(hipErrorInvalidValue);
}

XD_EXPORT hipError_t hipPointerGetAttribute(void* out, hipPointer_attribute which, hipDeviceptr_t pointer) {
  const std::lock_guard lock(mutex);
  const auto found = find(pointer);
  if (found == memories.end()) return fail(hipErrorInvalidValue);
  const bool host = found->second.kind == Kind::host;
  *static_cast<int*>(out) = which == HIP_POINTER_ATTRIBUTE_MEMORY_TYPE ? (host ? 1 : 2) : found->second.device;
  return hipSuccess;
}
XD_EXPORT hipError_t hipMemcpyAsync(void* to, const void* from, std::size_t bytes, hipMemcpyKind kind,
                                    hipStream_t stream) {
  if (kind != hipMemcpyDefault) return fail(hipErrorInvalidMemcpyDirection);
  return enqueue(stream, [=] { std::memcpy(to, from, bytes); });
}
XD_EXPORT hipError_t hipMemcpyPeerAsync(void* to, int, const void* from, int, std::size_t bytes, hipStream_t stream) {
  return enqueue(stream, [=] { std::memcpy(to, from, bytes); });
}
XD_EXPORT hipError_t hipMemsetAsync(void* to, int value, std::size_t bytes, hipStream_t stream) {
  return enqueue(stream, [=] { std::memset(to, value, bytes); });
}

XD_EXPORT int fake_hip_live() {
  (void)hipDeviceSynchronize();  // what was freed in the order of a stream is gone then
  const std::lock_guard lock(mutex);
  int of_the_library = 0;
  for (const auto& [at, memory] : memories) of_the_library += memory.kind != Kind::host;  // pinned ones are kept
  for (const hipStream_t stream : streams) of_the_library += stream->is_the_librarys;
  return of_the_library + live_handles;
}
XD_EXPORT int fake_hip_last_error() { return last; }
