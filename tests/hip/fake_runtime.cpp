// SPDX-License-Identifier: Apache-2.0
// A libamdhip64.so for tests of the host half where no AMD GPU is: devices are this process, memory is shared pages, and
// a launched kernel is the same body on fibers with 64 lanes. It refuses what the real runtime documents as an error, and
// what the option of that name asks for (fake_runtime.hpp). It shows that the host half calls in the right order with the
// right values. It says nothing of device code, caches, links, or of what the real runtime does beyond its documentation.
#include "hip/fake_runtime.hpp"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <sstream>

#include "crossdock/cpu_stream.hpp"
#include "platform/hip/driver.hpp"
#include "support/fiber_launch.hpp"

using crossdock::CpuStream;
using crossdock::platform::Geometry;
using crossdock::platform::hip::AllocationProperties;

#define XD_EXPORT extern "C" __attribute__((visibility("default")))

struct ihipStream_t {
  CpuStream queue;
  int device;
};
struct ihipModule_t {
  const unsigned char* image;
  int device;
};
using Run = std::function<void(Geometry, const void* args)>;
struct ihipModuleSymbol_t {
  Run run;
  std::size_t argument_bytes;
  int device;
};
struct ihipMemGenericAllocationHandle {
  int fd;
  std::size_t bytes;
};

namespace {

enum class Kind { device, host, imported, reserved };
struct Memory {
  Kind kind;
  std::size_t bytes;
  int device;
  int fd;
  std::set<int> users;  // devices that have been given access
};
struct IpcHandle {
  char mark[8];
  int pid, fd;
  std::size_t bytes;
};

std::recursive_mutex mutex;
std::map<char*, Memory> memories;     // by first byte
std::set<std::pair<int, int>> peers;  // (from, to) that were enabled
std::map<std::string, ihipModuleSymbol_t> symbols[8];
int live_streams, live_handles;
thread_local int current;
thread_local hipError_t last = hipSuccess;

hipError_t fail(hipError_t error) { return last = error; }

/// Number behind `name=` in FAKE_HIP.
long option(const std::string& name, long standard) {
  const char* all = std::getenv("FAKE_HIP");
  std::istringstream words(all ? all : "");
  for (std::string word; words >> word;)
    if (word.rfind(name + "=", 0) == 0) return std::strtol(word.c_str() + name.size() + 1, nullptr, 0);
  return standard;
}
int num_devices() { return static_cast<int>(option("devices", 2)); }

std::map<char*, Memory>::iterator find(const void* pointer) {
  auto after = memories.upper_bound(static_cast<char*>(const_cast<void*>(pointer)));
  if (after == memories.begin()) return memories.end();
  --after;
  return static_cast<const char*>(pointer) < after->first + after->second.bytes ? after : memories.end();
}

/// New pages that are not zero, as real memory.
hipError_t make_memory(void** out, std::size_t bytes, Kind kind) {
  const std::lock_guard lock(mutex);
  std::size_t used = bytes;
  for (const auto& [at, m] : memories) used += m.device == current && m.kind == Kind::device ? m.bytes : 0;
  if (used > static_cast<std::size_t>(option("memory", 1L << 30))) return fail(hipErrorOutOfMemory);
  const int fd = ::memfd_create("fake_hip", MFD_CLOEXEC);
  if (fd < 0 || ::ftruncate(fd, static_cast<off_t>(bytes)) != 0) return fail(hipErrorOutOfMemory);
  *out = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
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

/// Runs on the stream's queue, or at once on the null stream.
template <class Call>
hipError_t enqueue(hipStream_t stream, Call call) {
  if (stream)
    stream->queue.enqueue(call);
  else
    call();
  return hipSuccess;
}

/// Whether kernels of `device` may touch a peer's memory as the host half has arranged it.
bool reaches(int device, const void* pointer) {
  const std::lock_guard lock(mutex);
  const auto found = find(pointer);
  if (found == memories.end()) return false;
  return found->second.users.count(device) || peers.count({device, found->second.device});
}

template <class Args>
Run run_of(crossdock::testing::FiberRun<Args> body, int device) {
  return [body, device](Geometry geometry, const void* bytes) {
    const Args& args = *static_cast<const Args*>(bytes);
    for (int r = 0; r < args.call.peers.num_ranks; ++r)
      if (!reaches(device, args.call.peers.base[r]))
        throw std::logic_error("fake HIP: device " + std::to_string(device) +
                               " was given no access to the memory of rank " + std::to_string(r));
    body(geometry, static_cast<std::uint64_t>(option("order", 0)), args);
  };
}

/// Kernels by name, for one device.
std::map<std::string, ihipModuleSymbol_t> all_kernels(int device) {
  using namespace crossdock::kernels;
  using crossdock::Dtype, crossdock::Wire;
  const crossdock::testing::FiberRuns& runs = crossdock::testing::fiber_runs_64();
  std::map<std::string, ihipModuleSymbol_t> all;
  const auto add = [&](const char* name, auto body, std::size_t bytes) {
    all["crossdock_" + std::string(name)] = {run_of(body, device), bytes, device};
  };
  add("dispatch", runs.dispatch, sizeof(DispatchArgs));
  add("expert_counts", runs.expert_counts, sizeof(ExpertRowsArgs));
  add("expert_rows", runs.expert_rows, sizeof(ExpertRowsArgs));
#define XD_COMBINE(dtype, wire)                                                                               \
  add("combine_" #dtype "_" #wire, runs.combine[int(Dtype::dtype)][int(Wire::wire)][0], sizeof(CombineArgs)); \
  add("combine_" #dtype "_" #wire "_by_expert", runs.combine[int(Dtype::dtype)][int(Wire::wire)][1],          \
      sizeof(CombineArgs));
#include "kernels/instances.def"
#undef XD_COMBINE
  return all;
}

/// Whether a code object has the kernel descriptor `<name>.kd` among its dynamic symbols.
bool has_kernel(const unsigned char* image, const std::string& name) {
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(image);
  const auto* sections = reinterpret_cast<const Elf64_Shdr*>(image + header->e_shoff);
  for (int s = 0; s < header->e_shnum; ++s) {
    if (sections[s].sh_type != SHT_DYNSYM) continue;
    const char* names = reinterpret_cast<const char*>(image + sections[sections[s].sh_link].sh_offset);
    const auto* symbol = reinterpret_cast<const Elf64_Sym*>(image + sections[s].sh_offset);
    for (std::size_t i = 0; i < sections[s].sh_size / sizeof *symbol; ++i)
      if (names + symbol[i].st_name == name + ".kd") return true;
  }
  return false;
}

}  // namespace

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
  std::snprintf(name, static_cast<std::size_t>(length), "AMD Instinct of cardboard");
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
XD_EXPORT hipError_t hipHostMalloc(void** out, std::size_t bytes, unsigned int) {
  return make_memory(out, bytes, Kind::host);
}
XD_EXPORT hipError_t hipHostFree(void* pointer) { return drop_memory(pointer, Kind::host); }

XD_EXPORT hipError_t hipIpcGetMemHandle(hipIpcMemHandle_t* out, void* pointer) {
  const std::lock_guard lock(mutex);
  const auto found = memories.find(static_cast<char*>(pointer));
  if (found == memories.end() || found->second.kind != Kind::device) return fail(hipErrorInvalidValue);
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
XD_EXPORT hipError_t hipMemsetAsync(void* to, int value, std::size_t bytes, hipStream_t stream) {
  return enqueue(stream, [=] { std::memset(to, value, bytes); });
}

// ---- streams and kernels -----------------------------------------------------------------------------------------

XD_EXPORT hipError_t hipDeviceGetStreamPriorityRange(int* least, int* most) {
  return *least = 0, *most = -1, hipSuccess;
}
XD_EXPORT hipError_t hipStreamCreateWithPriority(hipStream_t* out, unsigned int, int) {
  const std::lock_guard lock(mutex);
  ++live_streams;
  return *out = new ihipStream_t{{}, current}, hipSuccess;
}
XD_EXPORT hipError_t hipStreamDestroy(hipStream_t stream) {
  delete stream;
  const std::lock_guard lock(mutex);
  return --live_streams, hipSuccess;
}
XD_EXPORT hipError_t hipStreamSynchronize(hipStream_t stream) {
  if (stream) stream->queue.synchronize();
  return hipSuccess;
}
XD_EXPORT hipError_t hipStreamIsCapturing(hipStream_t, hipStreamCaptureStatus* status) {
  return *status = hipStreamCaptureStatusNone, hipSuccess;
}
XD_EXPORT int hipGetStreamDeviceId(hipStream_t stream) { return stream ? stream->device : current; }

XD_EXPORT hipError_t hipModuleLoadData(hipModule_t* out, const void* image) {
  const auto* header = static_cast<const Elf64_Ehdr*>(image);
  const unsigned wanted = option("minor", 4) == 4 ? 0x4c : 0x4f;  // EF_AMDGPU_MACH of gfx942, gfx950
  if (std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return fail(hipErrorInvalidImage);
  if ((header->e_flags & 0xff) != wanted || !option("load", 1)) return fail(hipErrorNoBinaryForGpu);
  return *out = new ihipModule_t{static_cast<const unsigned char*>(image), current}, hipSuccess;
}
XD_EXPORT hipError_t hipModuleGetFunction(hipFunction_t* out, hipModule_t module, const char* name) {
  const std::lock_guard lock(mutex);
  auto& kernels = symbols[module->device];
  if (kernels.empty()) kernels = all_kernels(module->device);
  const auto found = kernels.find(name);
  if (found == kernels.end() || !has_kernel(module->image, name)) return fail(hipErrorNotFound);
  return *out = &found->second, hipSuccess;
}
XD_EXPORT hipError_t hipModuleOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, hipFunction_t, int, std::size_t) {
  return *blocks = static_cast<int>(option("occupancy", 1)), hipSuccess;
}
XD_EXPORT hipError_t hipModuleLaunchKernel(hipFunction_t f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                                           unsigned by, unsigned bz, unsigned shared, hipStream_t stream,
                                           void** parameters, void** extra) {
  const bool flat = gy == 1 && gz == 1 && by == 1 && bz == 1 && shared == 0 && !extra;
  if (!flat || gx == 0 || bx == 0 || bx > static_cast<unsigned>(option("threads", 128)))
    return fail(hipErrorInvalidValue);
  if (f->device != current || (stream && stream->device != current)) return fail(hipErrorInvalidHandle);
  if (!option("launch", 1)) return fail(hipErrorLaunchFailure);
  auto bytes = std::make_shared<std::string>(static_cast<const char*>(parameters[0]), f->argument_bytes);
  const Geometry geometry{static_cast<int>(gx), static_cast<int>(bx)};
  return enqueue(stream, [f, geometry, bytes] { f->run(geometry, bytes->data()); });
}

XD_EXPORT int fake_hip_live() {
  const std::lock_guard lock(mutex);
  return static_cast<int>(memories.size()) + live_streams + live_handles;
}
XD_EXPORT int fake_hip_last_error() { return last; }
