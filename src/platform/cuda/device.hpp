// SPDX-License-Identifier: Apache-2.0
// NVIDIA GPUs as Devices. platform/device.hpp documents the functions.
#pragma once

#include "platform/device.hpp"

namespace crossdock::platform::cuda {

int num_devices(const char** note);
std::shared_ptr<Device> open_device(int ordinal);

}  // namespace crossdock::platform::cuda
