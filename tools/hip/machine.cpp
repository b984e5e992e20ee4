// SPDX-License-Identifier: Apache-2.0
#include "gpu/gpu_machine.hpp"

#include "hip/runtime.hpp"

namespace crossdock::tools::hip {

static const MachineKind machine(BackendKind::hip, gpu::open<Runtime>);

}  // namespace crossdock::tools::hip
