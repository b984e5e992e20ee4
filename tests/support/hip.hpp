// SPDX-License-Identifier: Apache-2.0
// Memory of AMD GPUs as tests use it; headers of two vendors do not fit into one source file. Empty in a build without HIP.
#pragma once

#ifdef CROSSDOCK_WITH_HIP
#include <cstddef>
#include <cstdint>
#include <memory>

#include "crossdock/types.hpp"

namespace crossdock::testing::hip {

int num_devices();
std::shared_ptr<void> allocate(std::size_t bytes);
void fill(void* to, std::uint8_t value, std::size_t bytes);
void copy(void* to, const void* from, std::size_t bytes);  // done when it returns
void enqueue_copy(void* to, const void* from, std::size_t bytes, StreamHandle stream);
void synchronize(StreamHandle stream);
void use(int rank);

}  // namespace crossdock::testing::hip
#endif
