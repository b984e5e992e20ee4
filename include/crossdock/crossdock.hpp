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

/// A machine that the library knows, with the number of its devices here (CPU: 1).
struct BackendInfo {
  BackendKind kind;
  int num_devices;
  const char* note;  ///< why there are none, else empty; static
};
/// Writes up to `capacity` of them to `out` (null if 0); returns how many there are.
XD_PUBLIC int list_backends(BackendInfo* out, int capacity);

}  // namespace crossdock
