// SPDX-License-Identifier: Apache-2.0
// Memory of a GPU, whichever vendor's: it knows how another device of this process comes to reach it.
#pragma once

#include "platform/device.hpp"

namespace crossdock::platform {

class DeviceBlock : public Block {
 public:
  explicit DeviceBlock(int ordinal) : ordinal_(ordinal) {}
  virtual void grant(int ordinal) const = 0;

 protected:
  int ordinal_;
};

}  // namespace crossdock::platform
