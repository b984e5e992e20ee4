// SPDX-License-Identifier: Apache-2.0
// The fake HIP runtime's streams, events, graphs and modules. A graph is the list of calls that a CPU stream records.
#include <dlfcn.h>
#include <elf.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <vector>

#include "hip/fake_state.hpp"

using namespace crossdock::testing::fake;
using crossdock::platform::Geometry;

struct ihipEvent_t {
  std::chrono::steady_clock::time_point at;
  std::atomic<int> under_way{0};  // records that the stream has not reached
};
struct ihipGraph {
  crossdock::CpuGraph calls;
};
struct hipGraphExec {
  crossdock::CpuGraph calls;
};
struct hipGraphNode {};
struct ihipModule_t {
  const unsigned char* image;
  int device;
};
struct ihipModuleSymbol_t {
  Kernel kernel;
};

namespace {

std::map<std::string, ihipModuleSymbol_t> symbols[8];
hipGraphNode some_node;

/// The hardware queues of a device that streams of one priority share, taken in turn: option `queues`.
std::shared_ptr<HardwareQueue> next_queue(int device, bool is_urgent) {
  static std::map<std::pair<int, bool>, std::pair<std::size_t, std::vector<std::shared_ptr<HardwareQueue>>>> all;
  auto& [next, queues] = all[{device, is_urgent}];
  while (static_cast<long>(queues.size()) < option("queues", 0)) queues.push_back(std::make_shared<HardwareQueue>());
  return queues.empty() ? nullptr : queues[next++ % queues.size()];
}

/// Whether a function is called by the plug-in.
bool calls_for_the_library(const void* return_address) {
  Dl_info from{};
  return dladdr(return_address, &from) && std::strstr(from.dli_fname, "libcrossdock_hip");
}

hipError_t make_stream(hipStream_t* out, bool is_urgent, const void* return_address) {
  const std::lock_guard lock(mutex);
  *out = new ihipStream_t{next_queue(current, is_urgent), current, calls_for_the_library(return_address), {}, {}};
  return streams.insert(*out), hipSuccess;
}
bool capturing(hipStream_t stream) { return stream && stream->queue.capturing(); }

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

// ---- streams and kernels -----------------------------------------------------------------------------------------

XD_EXPORT hipError_t hipDeviceGetStreamPriorityRange(int* least, int* most) {
  return *least = 0, *most = -1, hipSuccess;
}
XD_EXPORT hipError_t hipStreamCreateWithPriority(hipStream_t* out, unsigned int, int priority) {
  return make_stream(out, priority < 0, __builtin_return_address(0));
}
XD_EXPORT hipError_t hipStreamCreateWithFlags(hipStream_t* out, unsigned int) {
  return make_stream(out, false, __builtin_return_address(0));
}
XD_EXPORT hipError_t hipStreamDestroy(hipStream_t stream) {
  {
    const std::lock_guard lock(mutex);
    if (streams.erase(stream) == 0) return fail(hipErrorInvalidHandle);
  }
  return delete stream, hipSuccess;
}
XD_EXPORT hipError_t hipStreamSynchronize(hipStream_t stream) {
  if (capturing(stream)) return fail(hipErrorStreamCaptureUnsupported);
  if (stream) stream->queue.synchronize();
  return hipSuccess;
}
XD_EXPORT hipError_t hipDeviceSynchronize() {
  std::set<hipStream_t> all;
  {
    const std::lock_guard lock(mutex);
    all = streams;
  }
  for (const hipStream_t stream : all)
    if (!capturing(stream)) stream->queue.synchronize();
  return hipSuccess;
}
XD_EXPORT hipError_t hipLaunchHostFunc(hipStream_t stream, hipHostFn_t call, void* data) {
  return enqueue(stream, [=] { call(data); });
}

// ---- events and graphs -------------------------------------------------------------------------------------------

XD_EXPORT hipError_t hipEventCreate(hipEvent_t* out) { return *out = new ihipEvent_t{}, hipSuccess; }
XD_EXPORT hipError_t hipEventCreateWithFlags(hipEvent_t* out, unsigned) { return hipEventCreate(out); }
XD_EXPORT hipError_t hipEventDestroy(hipEvent_t event) { return delete event, hipSuccess; }
XD_EXPORT hipError_t hipEventRecord(hipEvent_t event, hipStream_t stream) {
  if (capturing(stream)) return hipSuccess;  // an order, no time
  ++event->under_way;
  return enqueue(stream, [event] {
    event->at = std::chrono::steady_clock::now();
    --event->under_way;
  });
}
XD_EXPORT hipError_t hipEventQuery(hipEvent_t event) {
  return event->under_way == 0 ? hipSuccess : fail(hipErrorNotReady);
}
XD_EXPORT hipError_t hipThreadExchangeStreamCaptureMode(hipStreamCaptureMode* mode) {
  static thread_local hipStreamCaptureMode own = hipStreamCaptureModeGlobal;
  return std::swap(own, *mode), hipSuccess;
}
XD_EXPORT hipError_t hipEventElapsedTime(float* ms, hipEvent_t from, hipEvent_t to) {
  if (from->at == decltype(from->at){} || to->at == decltype(to->at){}) return fail(hipErrorInvalidHandle);
  return *ms = std::chrono::duration<float, std::milli>(to->at - from->at).count(), hipSuccess;
}

XD_EXPORT hipError_t hipStreamIsCapturing(hipStream_t stream, hipStreamCaptureStatus* status) {
  return *status = capturing(stream) ? hipStreamCaptureStatusActive : hipStreamCaptureStatusNone, hipSuccess;
}
XD_EXPORT hipError_t hipStreamBeginCapture(hipStream_t stream, hipStreamCaptureMode) {
  return stream->queue.begin_capture(), hipSuccess;
}
XD_EXPORT hipError_t hipStreamEndCapture(hipStream_t stream, hipGraph_t* out) {
  return *out = new ihipGraph{stream->queue.end_capture()}, hipSuccess;
}
/// The graph under construction goes by the name of its stream.
XD_EXPORT hipError_t hipStreamGetCaptureInfo_v2(hipStream_t stream, hipStreamCaptureStatus* status,
                                                unsigned long long* id, hipGraph_t* graph,
                                                const hipGraphNode_t** before, std::size_t* count) {
  *id = 1, *graph = reinterpret_cast<hipGraph_t>(stream), *before = nullptr, *count = 0;
  return hipStreamIsCapturing(stream, status);
}
XD_EXPORT hipError_t hipGraphAddEventRecordNode(hipGraphNode_t* out, hipGraph_t graph, const hipGraphNode_t*,
                                                std::size_t, hipEvent_t event) {
  *out = &some_node;
  return enqueue(reinterpret_cast<hipStream_t>(graph), [event] { event->at = std::chrono::steady_clock::now(); });
}
XD_EXPORT hipError_t hipStreamUpdateCaptureDependencies(hipStream_t stream, hipGraphNode_t* nodes, std::size_t count,
                                                        unsigned int flags) {
  const bool fits =
      capturing(stream) && count == 1 && nodes[0] == &some_node && flags == hipStreamSetCaptureDependencies;
  return fits ? hipSuccess : fail(hipErrorInvalidValue);
}
XD_EXPORT hipError_t hipGraphGetNodes(hipGraph_t graph, hipGraphNode_t*, std::size_t* count) {
  return *count = graph->calls.num_calls(), hipSuccess;
}
XD_EXPORT hipError_t hipGraphInstantiateWithFlags(hipGraphExec_t* out, hipGraph_t graph, unsigned long long) {
  return *out = new hipGraphExec{graph->calls}, hipSuccess;
}
XD_EXPORT hipError_t hipGraphDestroy(hipGraph_t graph) { return delete graph, hipSuccess; }
XD_EXPORT hipError_t hipGraphExecDestroy(hipGraphExec_t exec) { return delete exec, hipSuccess; }
XD_EXPORT hipError_t hipGraphLaunch(hipGraphExec_t exec, hipStream_t stream) {
  return stream->put([&](crossdock::CpuStream& queue) { queue.replay(exec->calls); }), hipSuccess;
}
XD_EXPORT int hipGetStreamDeviceId(hipStream_t stream) { return stream ? stream->device : current; }

// ---- modules ----------------------------------------------------------------------------------------------------

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
  if (kernels.empty())
    for (auto& [known, kernel] : all_kernels(module->device)) kernels[known] = {std::move(kernel)};
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
  const long most = f->kernel.most_threads ? f->kernel.most_threads : option("threads", 128);
  if (!flat || gx == 0 || bx == 0 || static_cast<long>(bx) > most) return fail(hipErrorInvalidValue);
  if (f->kernel.device != current || (stream && stream->device != current)) return fail(hipErrorInvalidHandle);
  if (!option("launch", 1)) return fail(hipErrorLaunchFailure);
  auto bytes = std::make_shared<std::string>(static_cast<const char*>(parameters[0]), f->kernel.argument_bytes);
  const Geometry geometry{static_cast<int>(gx), static_cast<int>(bx)};
  return enqueue(stream, [f, geometry, bytes] { f->kernel.run(geometry, bytes->data()); });
}
