// SPDX-License-Identifier: Apache-2.0
#include "platform/hip/driver.hpp"

#include <dlfcn.h>

namespace crossdock::platform::hip {
namespace {

constexpr int kVersionsPerMajor = 10'000'000;  // of hipRuntimeGetVersion
constexpr const char* kNames[] = {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"};

void* open_runtime() {
  for (const char* name : kNames)  // a second runtime in the process could not use streams of the first
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_NOLOAD)) return library;
  for (const char* name : kNames)
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL)) return library;
  return nullptr;
}

Driver look_up_all() {
  Driver d;
  void* library = open_runtime();
  if (!library) {
    d.problem = "no HIP runtime: libamdhip64.so, versions 5 to 7, is not installed or does not load";
    return d;
  }
#define XD_LOOK_UP(member, function)                                            \
  d.member = reinterpret_cast<decltype(d.member)>(::dlsym(library, #function)); \
  if (!d.member && d.problem.empty()) d.problem = "the HIP runtime has no " #function;
  XD_HIP_FUNCTIONS(XD_LOOK_UP)
#undef XD_LOOK_UP
  return d;
}

}  // namespace

const Driver& driver() {
  static const Driver all = look_up_all();
  return all;
}

int num_devices(const char** note) {
  *note = driver().problem.c_str();
  if (!driver().problem.empty()) return 0;
  int count = 0;
  const hipError_t error = driver().get_device_count(&count);
  int version = 0;
  if (error == hipSuccess && count > 0 && driver().runtime_version(&version) == hipSuccess) {
    if (version / kVersionsPerMajor >= kOldestMajor) return count;
    *note = "the HIP runtime is older than version 6, which no supported GPU runs with";
    return 0;
  }
  (void)driver().get_last_error();
  *note = error == hipSuccess || error == hipErrorNoDevice ? "no HIP device" : driver().error_name(error);
  return 0;
}

void check(hipError_t error, const std::string& what) {
  if (error == hipSuccess) return;
  (void)driver().get_last_error();
  throw SystemError(what + " failed: " + driver().error_text(error) + " (HIP error " + std::to_string(error) + ", " +
                    driver().error_name(error) + ")");
}

}  // namespace crossdock::platform::hip
