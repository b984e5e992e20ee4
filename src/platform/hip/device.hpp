// SPDX-License-Identifier: Apache-2.0
// AMD GPUs as Devices. platform/device.hpp documents the function.
#pragma once

#include "platform/device.hpp"

namespace crossdock::platform::hip {

std::shared_ptr<Device> open_device(int ordinal);

}  // namespace crossdock::platform::hip
