// SPDX-License-Identifier: Apache-2.0
// Memory of a GPU of either vendor.
#pragma once

#include "platform/device.hpp"

namespace crossdock::platform {

class DeviceBlock : public Block {
 public:
  explicit DeviceBlock(int ordinal) : ordinal_(ordinal) {}
  /// Gives device `ordinal` of this process access to the memory.
  virtual void grant(int ordinal) const = 0;

 protected:
  int ordinal_;
};

}  // namespace crossdock::platform
