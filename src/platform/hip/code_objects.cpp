// SPDX-License-Identifier: Apache-2.0
#include "platform/hip/code_objects.hpp"

#include "platform/hip/arithmetic.hpp"

namespace crossdock::platform::hip {

const CodeObject& code_object_of(int ordinal) {
  Architecture device;
  check(driver().device_attribute(&device.major, hipDeviceAttributeComputeCapabilityMajor, ordinal),
        "asking a device for its version");
  check(driver().device_attribute(&device.minor, hipDeviceAttributeComputeCapabilityMinor, ordinal),
        "asking a device for its version");
  std::string known;
  for (const CodeObject* code = kCodeObjects; code->architecture; ++code) {
    const Architecture built = architecture_of(code->architecture);
    if (built.major == device.major && built.minor == device.minor) return *code;
    known += (known.empty() ? "" : ", ") + std::string(code->architecture);
  }
  throw TopologyError("backend hip: device " + std::to_string(ordinal) + " is of version " +
                      std::to_string(device.major) + "." + std::to_string(device.minor) +
                      "; this library has code for " + known +
                      ". Build it with CROSSDOCK_HIP_ARCHITECTURES for this device, or choose cpu");
}

hipModule_t load(const CodeObject& code) {
  hipModule_t module{};
  check(driver().module_load(&module, code.bytes), std::string("loading the code for ") + code.architecture);
  return module;
}

hipFunction_t kernel_of(hipModule_t module, const char* name) {
  hipFunction_t function{};
  check(driver().module_function(&function, module, name), std::string("finding the kernel ") + name);
  return function;
}

}  // namespace crossdock::platform::hip
