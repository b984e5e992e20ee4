// SPDX-License-Identifier: Apache-2.0
#include "hip/runtime.hpp"

#include <dlfcn.h>
#include <link.h>

#include <fstream>
#include <iterator>
#include <mutex>

#include "crossdock/crossdock.hpp"
#include "hip/code.hpp"

namespace crossdock::tools::hip {
namespace {

/// The library asks for its devices, and loads the plug-in and a runtime to do so. Empty, or why there are none.
std::string load_plugin() {
  BackendInfo all[std::size(kBackendNames)];
  const int count = list_backends(all, static_cast<int>(std::size(all)));
  for (int i = 0; i < count; ++i)
    if (all[i].kind == BackendKind::hip) return all[i].num_devices > 0 ? "" : all[i].note ? all[i].note : "no device";
  return "not known to this library";
}

/// Path of the runtime in this process, whatever its version.
std::string loaded_runtime() {
  std::string path;
  const auto look = [](dl_phdr_info* info, std::size_t, void* found) {
    const std::string name = info->dlpi_name ? info->dlpi_name : "";
    if (name.find("libamdhip64.so") == std::string::npos) return 0;
    *static_cast<std::string*>(found) = name;
    return 1;
  };
  ::dl_iterate_phdr(look, &path);
  return path;
}

std::string look_up() {
  if (std::string why = load_plugin(); !why.empty()) return why;
  const std::string path = loaded_runtime();
  void* library = path.empty() ? nullptr : ::dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (!library) return "the plug-in has loaded no libamdhip64.so that can be found";
#define XD_LOOK_UP(name)                                                                    \
  Runtime::name = reinterpret_cast<decltype(Runtime::name)>(::dlsym(library, "hip" #name)); \
  if (!Runtime::name) return path + " has no hip" #name;
  XD_RUNTIME_FUNCTIONS(XD_LOOK_UP)
  XD_HIP_OWN_FUNCTIONS(XD_LOOK_UP)
  XD_LOOK_UP(MallocAsync)
#undef XD_LOOK_UP
  return {};
}

}  // namespace

std::string Runtime::problem() {
  static std::mutex mutex;
  static bool found = false;
  const std::lock_guard lock(mutex);
  if (found) return {};
  std::string problem = look_up();
  found = problem.empty();
  return problem;
}

std::string Runtime::name_of(int device) {
  char name[256] = "";
  check(DeviceGetName(name, sizeof name, device), "reading a device's name");
  return name;
}

std::string Runtime::driver() {
  int version = 0;
  check(RuntimeGetVersion(&version), "hipRuntimeGetVersion");
  const std::string text =
      "HIP " + std::to_string(version / 10'000'000) + "." + std::to_string(version / 100'000 % 100);
  std::ifstream module("/sys/module/amdgpu/version");
  std::string word;
  return module >> word ? "amdgpu " + word + ", " + text : text;
}

int Runtime::num_sms(int device) {
  int count = 0;
  check(DeviceGetAttribute(&count, hipDeviceAttributeMultiprocessorCount, device), "counting compute units");
  return count;
}

hipError_t Runtime::record(Event event, Stream stream) {
  hipStreamCaptureStatus capturing{};
  unsigned long long id = 0;
  hipGraph_t graph = nullptr;
  hipGraphNode_t node = nullptr;
  const hipGraphNode_t* before = nullptr;
  std::size_t count = 0;
  if (const hipError_t error = StreamGetCaptureInfo_v2(stream, &capturing, &id, &graph, &before, &count)) return error;
  if (capturing == hipStreamCaptureStatusNone) return EventRecord(event, stream);
  // What EventRecord captures is an order, not a time: the node is put in by hand.
  if (const hipError_t error = GraphAddEventRecordNode(&node, graph, before, count, event)) return error;
  return StreamUpdateCaptureDependencies(stream, &node, 1, hipStreamSetCaptureDependencies);
}

namespace {
Code& code() {
#define XD_NAME(name, arguments, threads) "crossdock_tools_" #name,
  static Code code(kToolsCode, {XD_GPU_KERNELS(XD_NAME)});
#undef XD_NAME
  return code;
}
}  // namespace

hipError_t Runtime::launch(gpu::Kernel kernel, int blocks, int threads, Stream stream, const void* arguments) {
  return code().launch(static_cast<int>(kernel), blocks, threads, stream, arguments);
}

hipError_t Runtime::load_kernels(int) {
  (void)code().on_current_device();
  return hipSuccess;
}

}  // namespace crossdock::tools::hip
