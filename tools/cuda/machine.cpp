// SPDX-License-Identifier: Apache-2.0
#include "gpu/gpu_machine.hpp"

#include "cuda/runtime.hpp"

namespace crossdock::tools::cuda {

static const MachineKind machine(BackendKind::cuda, gpu::open<Runtime>);

}  // namespace crossdock::tools::cuda
