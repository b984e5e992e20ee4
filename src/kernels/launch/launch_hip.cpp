// SPDX-License-Identifier: Apache-2.0
// The launch table of AMD GPUs, and what the plug-in exports. Kernels are found by name in the code that is loaded on a
// device when its first exchange is made; a launch looks up nothing.

#include "kernels/launch/launch_hip.hpp"

#include <atomic>
#include <mutex>

#include "crossdock/error.hpp"
#include "kernels/launch/launch.hpp"
#include "platform/hip/code_objects.hpp"
#include "platform/hip/device.hpp"
#include "platform/hip/driver.hpp"
#include "platform/plugin.hpp"

namespace crossdock::kernels::hip {
namespace {

using platform::Geometry;
using platform::hip::check;
using platform::hip::driver;

enum KernelIdx {
  dispatch,
  dispatch_latency,
  dispatch_ll,
  expert_rows,
  expert_rows_latency,
#define XD_COMBINE(dtype, quant) combine_##dtype##_##quant, combine_##dtype##_##quant##_by_expert,
#include "kernels/launch/instances.def"
#undef XD_COMBINE
#define XD_COMBINE_LL(dtype) combine_##dtype##_ll,
#include "kernels/launch/ll_instances.def"
#undef XD_COMBINE_LL
  kNumKernels
};

#define XD_TEXT(name) #name
#define XD_NAME(kernel) XD_TEXT(crossdock_##kernel)
constexpr const char* kNames[kNumKernels] = {
    XD_NAME(dispatch),    XD_NAME(dispatch_latency),    XD_NAME(dispatch_ll),
    XD_NAME(expert_rows), XD_NAME(expert_rows_latency),
#define XD_COMBINE(dtype, quant) XD_NAME(combine_##dtype##_##quant), XD_NAME(combine_##dtype##_##quant##_by_expert),
#include "kernels/launch/instances.def"
#undef XD_COMBINE
#define XD_COMBINE_LL(dtype) XD_NAME(combine_##dtype##_ll),
#include "kernels/launch/ll_instances.def"
#undef XD_COMBINE_LL
};

/// Kernels that are loaded on a device.
struct Loaded {
  hipFunction_t kernels[kNumKernels];
};
constexpr int kMaxDevices = 64;
std::atomic<const Loaded*> loaded[kMaxDevices];  // never freed: kernels may run until the process ends

int current_device() {
  int device = 0;
  check(driver().get_device(&device), "hipGetDevice");
  if (device >= kMaxDevices)
    throw TopologyError("backend hip: device " + std::to_string(device) + "; numbers from 0 to " +
                        std::to_string(kMaxDevices - 1) + " are served");
  return device;
}

/// Loads the code on the current device, once.
const Loaded& load() {
  static std::mutex mutex;
  const int device = current_device();
  const std::lock_guard lock(mutex);
  if (const Loaded* done = loaded[device].load()) return *done;
  const hipModule_t module = platform::hip::load(platform::hip::code_object_of(device));
  auto now = std::make_unique<Loaded>();
  for (int k = 0; k < kNumKernels; ++k) now->kernels[k] = platform::hip::kernel_of(module, kNames[k]);
  loaded[device] = now.get();
  return *now.release();
}

template <int kKernel, class Args>
void launch(Geometry geometry, StreamHandle stream, const Args& args) {
  const Loaded* code = loaded[current_device()].load();
  if (!code)
    throw StateError(std::string(kNames[kKernel]) +
                     ": no code is loaded on the current device; make the exchange on it first");
  void* parameters[] = {const_cast<Args*>(&args)};
  check(driver().module_launch(code->kernels[kKernel], geometry.num_blocks, 1, 1, geometry.num_threads, 1, 1, 0,
                               static_cast<hipStream_t>(stream), parameters, nullptr),
        std::string(kNames[kKernel]) + ": the kernel launch");
}

constexpr int kWidth = 64;  // threads of a warp

void launch_dispatch(Geometry geometry, StreamHandle stream, const DispatchArgs& args) {
  switch (kernel_for(args, geometry, kWidth)) {
    case Kernel::ll:
      return launch<KernelIdx::dispatch_ll, DispatchArgs>(geometry, stream, args);
    case Kernel::latency:
      return launch<KernelIdx::dispatch_latency, DispatchArgs>(geometry, stream, args);
    case Kernel::general:
      return launch<KernelIdx::dispatch, DispatchArgs>(geometry, stream, args);
  }
}

void launch_expert_rows(Geometry geometry, StreamHandle stream, const ExpertRowsArgs& args) {
  (kernel_for(args, geometry, kWidth) == Kernel::latency
       ? launch<KernelIdx::expert_rows_latency, ExpertRowsArgs>
       : launch<KernelIdx::expert_rows, ExpertRowsArgs>)(geometry, stream, args);
}

template <int kKernel, int kLl>
void launch_combine(Geometry geometry, StreamHandle stream, const CombineArgs& args) {
  (kernel_for(args, geometry, kWidth) == Kernel::ll ? launch<kLl, CombineArgs>
                                                    : launch<kKernel, CombineArgs>)(geometry, stream, args);
}

/// The least over all kernels of the blocks that can be resident together. It also loads the code.
int max_resident_blocks(int num_threads) {
  const Loaded& code = load();
  int fewest = 1 << 20, cus = 0;
  for (int k = 0; k < kNumKernels; ++k) {
    int on_cu = 0;
    check(driver().resident_blocks(&on_cu, code.kernels[k], num_threads, 0), std::string("occupancy of ") + kNames[k]);
    fewest = min(fewest, on_cu);
  }
  check(driver().device_attribute(&cus, hipDeviceAttributeMultiprocessorCount, current_device()),
        "counting compute units");
  return fewest * cus;
}

LaunchTable make_table() {
  LaunchTable t;
  t.dispatch = launch_dispatch;
  t.expert_rows = launch_expert_rows;
  t.max_resident_blocks = max_resident_blocks;
#define XD_COMBINE(dtype, quant)                                                        \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::quant)][0] = \
      launch<combine_##dtype##_##quant, CombineArgs>;                                   \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::quant)][1] = \
      launch<combine_##dtype##_##quant##_by_expert, CombineArgs>;
#include "kernels/launch/instances.def"
#undef XD_COMBINE
#define XD_COMBINE_LL(dtype)                                                           \
  t.combine[static_cast<int>(Dtype::dtype)][static_cast<int>(CombineQuant::none)][0] = \
      launch_combine<combine_##dtype##_none, combine_##dtype##_ll>;
#include "kernels/launch/ll_instances.def"
#undef XD_COMBINE_LL
  return t;
}

const void* launches() {
  static const LaunchTable table = make_table();
  return &table;
}

}  // namespace
}  // namespace crossdock::kernels::hip

extern "C" XD_PUBLIC const crossdock::platform::Plugin crossdock_plugin;
const crossdock::platform::Plugin crossdock_plugin = {CROSSDOCK_VERSION, crossdock::platform::hip::num_devices,
                                                      crossdock::platform::hip::open_device,
                                                      crossdock::kernels::hip::launches};
