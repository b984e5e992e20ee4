// SPDX-License-Identifier: Apache-2.0
// Crossdock: dispatch and combine of mixture-of-experts tokens between the GPUs, or the CPU ranks, of one host.
#pragma once

#include "crossdock/config.hpp"
#include "crossdock/cpu_stream.hpp"
#include "crossdock/error.hpp"
#include "crossdock/exchange.hpp"
#include "crossdock/group.hpp"
#include "crossdock/types.hpp"

namespace crossdock {

/// "major.minor.patch"
XD_PUBLIC const char* version();

/// Machines that can be used right now, by name, with the number of devices (CPU: 1).
struct BackendInfo {
  BackendKind kind;
  int num_devices;
  const char* note;  ///< why there are none
};
XD_PUBLIC int list_backends(BackendInfo* out, int capacity);

}  // namespace crossdock
