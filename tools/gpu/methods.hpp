// SPDX-License-Identifier: Apache-2.0
// Ways by which bytes reach a peer, of which a vendor may have some of its own.
#pragma once

#include <functional>

#include "crossdock/types.hpp"
#include "gpu/kernels.hpp"

namespace crossdock::tools::gpu {

/// A way by which bytes reach a peer. `launch` returns the runtime's error.
struct Method {
  const char* key;  // of its lines of JSON, for ever
  const char* what;
  bool pushes;
  int row_bytes;
  std::function<int(const Site& site, int blocks, StreamHandle stream)> launch;
};

}  // namespace crossdock::tools::gpu
