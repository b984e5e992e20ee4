// SPDX-License-Identifier: Apache-2.0
// The backends built into this library. Others are loaded as plug-ins.

#include "platform/device.hpp"

#include "crossdock/error.hpp"
#include "platform/cpu/device.hpp"
#include "platform/cpu/memory.hpp"
#include "platform/plugin.hpp"
#ifdef CROSSDOCK_WITH_CUDA
#include "platform/cuda/device.hpp"
#endif

namespace crossdock::platform {

int num_devices(BackendKind kind, const char** note) {
  *note = "";
  if (kind == BackendKind::cpu) return 1;
#ifdef CROSSDOCK_WITH_CUDA
  if (kind == BackendKind::cuda) return cuda::num_devices(note);
#endif
  const Plugin* plugin = find_plugin(kind, note);
  return plugin ? plugin->num_devices(note) : 0;
}

std::shared_ptr<Device> open_device(BackendKind kind, int ordinal) {
  if (kind == BackendKind::cpu) return cpu::open_device();
#ifdef CROSSDOCK_WITH_CUDA
  if (kind == BackendKind::cuda) return cuda::open_device(ordinal);
#endif
  const char* note = nullptr;
  if (const Plugin* plugin = find_plugin(kind, &note)) return plugin->open_device(ordinal);
  throw TopologyError("backend " + std::string(name_of(kind)) + ", device " + std::to_string(ordinal) + ": " + note +
                      "; choose cpu");
}

std::uint64_t page_bytes_of(BackendKind kind) {
  return kind == BackendKind::cuda || kind == BackendKind::hip ? kGpuPageBytes : cpu::page_bytes();
}

}  // namespace crossdock::platform
