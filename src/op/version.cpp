// SPDX-License-Identifier: Apache-2.0
#include "crossdock/crossdock.hpp"
#include "op/environment.hpp"
#include "platform/device.hpp"

namespace crossdock {

const char* version() { return CROSSDOCK_VERSION; }

int list_backends(BackendInfo* out, int capacity) {
  int count = 0;
  for (const BackendKind kind : op::kMachines) {
    if (count < capacity) {
      out[count].kind = kind;
      out[count].num_devices = platform::num_devices(kind, &out[count].note);
    }
    ++count;
  }
  return count;
}

}  // namespace crossdock
