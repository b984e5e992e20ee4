// SPDX-License-Identifier: Apache-2.0
// How a machine does what rank_memory.hpp promises. Headers of two vendors do not fit into one source file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "crossdock/types.hpp"

namespace crossdock::testing {

struct Machine {
  std::shared_ptr<void> (*allocate)(std::size_t bytes);
  void (*fill)(void* to, std::uint8_t value, std::size_t bytes);
  void (*copy)(void* to, const void* from, std::size_t bytes);  // done when it returns
  void (*enqueue_copy)(void* to, const void* from, std::size_t bytes, StreamHandle stream);
  void (*synchronize)(StreamHandle stream);
  void (*use)(int rank);
};

/// Only in builds with HIP.
const Machine& hip_machine();
int num_hip_devices();

}  // namespace crossdock::testing
