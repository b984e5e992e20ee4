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

/// A backend of the library.
struct BackendInfo {
  BackendKind kind;
  int num_devices;   ///< devices of this host that it can use; 1 on the CPU
  const char* note;  ///< why there are none, else empty; static storage
};
/// Writes the first `capacity` backends to `out`, which may be null if `capacity` is 0. Returns their total number.
XD_PUBLIC int list_backends(BackendInfo* out, int capacity);

}  // namespace crossdock
