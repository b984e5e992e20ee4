// SPDX-License-Identifier: Apache-2.0
// Ranges for NVIDIA's profilers: the header-only NVTX of the CUDA toolkit, or nothing where the toolkit lacks it.
#pragma once

#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

namespace crossdock::platform::cuda::ranges {

inline void initialize() { nvtxInitialize(nullptr); }
inline void begin(const char* name) { nvtxRangePushA(name); }
inline void end() { nvtxRangePop(); }

}  // namespace crossdock::platform::cuda::ranges
#else
namespace crossdock::platform::cuda::ranges {

inline void initialize() {}
inline void begin(const char*) {}
inline void end() {}

}  // namespace crossdock::platform::cuda::ranges
#endif
