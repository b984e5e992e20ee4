// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "platform/device.hpp"

namespace crossdock::platform::hip {

std::shared_ptr<Device> open_device(int ordinal);

}  // namespace crossdock::platform::hip
