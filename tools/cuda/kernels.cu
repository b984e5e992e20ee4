// SPDX-License-Identifier: Apache-2.0
#include "cuda/kernels.hpp"

namespace crossdock::tools::cuda {
namespace {

constexpr int kThreads = 256, kBlocks = 1024;

/// A block takes a row at a time, `Unit` by `Unit`.
template <class Unit>
__global__ void find(const Unit* is, const Unit* should, const std::int64_t* index, std::int64_t num_rows,
                     std::int64_t units, unsigned long long* first) {
  for (std::int64_t row = blockIdx.x; row < num_rows; row += gridDim.x) {
    const std::int64_t of = index ? index[row] : row;
    if (of < 0) continue;
    for (std::int64_t i = threadIdx.x; i < units; i += blockDim.x)
      if (is[row * units + i] != should[of * units + i]) atomicMin(first, static_cast<unsigned long long>(row));
  }
}

}  // namespace

cudaError_t find_difference(const void* is, const void* should, const std::int64_t* index, std::int64_t num_rows,
                            std::int64_t row_bytes, unsigned long long* first, cudaStream_t stream) {
  const auto launch = [&](auto unit) {
    using Unit = decltype(unit);
    find<Unit><<<kBlocks, kThreads, 0, stream>>>(static_cast<const Unit*>(is), static_cast<const Unit*>(should), index,
                                                 num_rows, row_bytes / static_cast<std::int64_t>(sizeof(Unit)), first);
  };
  row_bytes % 8 == 0 ? launch(std::uint64_t{}) : launch(std::uint8_t{});
  return cudaGetLastError();
}

}  // namespace crossdock::tools::cuda
