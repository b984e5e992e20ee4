// SPDX-License-Identifier: Apache-2.0
// The CPU as a Device: pages of this process, shared as file descriptors.
#pragma once

#include "platform/device.hpp"

namespace crossdock::platform::cpu {

std::shared_ptr<Device> open_device();

}  // namespace crossdock::platform::cpu
