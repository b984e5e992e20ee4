// SPDX-License-Identifier: Apache-2.0
#include "hip/code.hpp"

namespace crossdock::tools::hip {

std::vector<hipFunction_t> Code::load() {
  hipModule_t module{};
  hipError_t error = hipErrorNoBinaryForGpu;
  for (const CodeObject* code = objects_; code->architecture && error != hipSuccess; ++code)
    error = Runtime::ModuleLoadData(&module, code->bytes);  // the driver refuses what is for another GPU
  check(error, "loading the code of kernels for this GPU");
  std::vector<hipFunction_t> kernels(names_.size());
  for (std::size_t k = 0; k < names_.size(); ++k)
    check(Runtime::ModuleGetFunction(&kernels[k], module, names_[k]), names_[k]);
  return kernels;
}

const std::vector<hipFunction_t>& Code::on_current_device() {
  int device = 0;
  check(Runtime::GetDevice(&device), "asking for the current device");
  const std::lock_guard lock(mutex_);
  std::vector<hipFunction_t>& kernels = loaded_[device];
  if (kernels.empty()) kernels = load();
  return kernels;
}

hipError_t Code::launch(int kernel, int blocks, int threads, hipStream_t stream, const void* arguments) {
  void* parameters[] = {const_cast<void*>(arguments)};
  return Runtime::ModuleLaunchKernel(on_current_device()[static_cast<std::size_t>(kernel)],
                                     static_cast<unsigned>(blocks), 1, 1, static_cast<unsigned>(threads), 1, 1, 0,
                                     stream, parameters, nullptr);
}

}  // namespace crossdock::tools::hip
