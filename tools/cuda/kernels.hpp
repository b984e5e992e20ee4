// SPDX-License-Identifier: Apache-2.0
// What the tools themselves run on a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace crossdock::tools::cuda {

/// Writes the first row in which `is` differs from its row of `should` to `first`, which must hold the largest value.
cudaError_t find_difference(const void* is, const void* should, const std::int64_t* index, std::int64_t num_rows,
                            std::int64_t row_bytes, unsigned long long* first, cudaStream_t stream);

}  // namespace crossdock::tools::cuda
