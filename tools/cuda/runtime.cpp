// SPDX-License-Identifier: Apache-2.0
#include "cuda/runtime.hpp"

#include <cstdlib>
#include <fstream>

namespace crossdock::tools::cuda {
namespace {

/// Before anybody speaks to the driver. A kernel that is loaded by its first launch waits for those that run on its device, and
/// where ranks share one, a rank's kernel may be waiting for the rank that launches.
[[maybe_unused]] const int kLoadAllKernelsAtOnce = ::setenv("CUDA_MODULE_LOADING", "EAGER", 0);

}  // namespace

/// Not inline: who asks gets this object out of its static library, and with it the line above.
std::string Runtime::problem() { return {}; }

std::string Runtime::name_of(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "reading device properties");
  return properties.name;
}

std::string Runtime::driver() {
  int version = 0;
  check(cudaDriverGetVersion(&version), "cudaDriverGetVersion");
  std::string text = "CUDA " + std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  std::ifstream module("/proc/driver/nvidia/version");
  std::string word;
  while (module >> word)
    if (word.size() > 5 && word.find_first_not_of("0123456789.") == std::string::npos)
      return word.append(", ").append(text);
  return text;
}

int Runtime::num_sms(int device) {
  int count = 0;
  check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "counting multiprocessors");
  return count;
}

cudaError_t Runtime::record(Event event, Stream stream) {
  cudaStreamCaptureStatus capturing{};
  if (const cudaError_t error = cudaStreamIsCapturing(stream, &capturing)) return error;
  const unsigned flags = capturing == cudaStreamCaptureStatusNone ? cudaEventRecordDefault : cudaEventRecordExternal;
  return cudaEventRecordWithFlags(event, stream, flags);
}

}  // namespace crossdock::tools::cuda
