// SPDX-License-Identifier: Apache-2.0
// Compiled device code that a program carries, one object per architecture.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "hip/runtime.hpp"

namespace crossdock::tools::hip {

struct CodeObject {
  const char* architecture;  ///< "gfx942"
  const unsigned char* bytes;
  const unsigned char* end;
};

/// Of the tools' own kernels; the last has no architecture.
extern const CodeObject kToolsCode[];

/// The kernels of one source file, loaded on a device when the first of them is launched there.
class Code {
 public:
  Code(const CodeObject* objects, std::vector<const char*> names) : objects_(objects), names_(std::move(names)) {}
  /// On the current device; `arguments` is the kernel's only one.
  hipError_t launch(int kernel, int blocks, int threads, hipStream_t stream, const void* arguments);
  /// By their place among the names; loads them if nobody has. Throws.
  const std::vector<hipFunction_t>& on_current_device();

 private:
  std::vector<hipFunction_t> load();

  const CodeObject* objects_;
  std::vector<const char*> names_;
  std::mutex mutex_;
  std::map<int, std::vector<hipFunction_t>> loaded_;  // by device, as long as the process lives
};

}  // namespace crossdock::tools::hip
