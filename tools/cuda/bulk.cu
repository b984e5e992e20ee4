// SPDX-License-Identifier: Apache-2.0
// Copies by the copy unit of a multiprocessor, which devices since 9.0 have: a way to a peer of NVIDIA's own.
#include <cuda_runtime.h>

#include "cuda/launch.hpp"
#include "cuda/words_device.hpp"
#include "gpu/kernels_device.hpp"

namespace crossdock::tools::cuda {
namespace {

using namespace gpu;

constexpr int kStages = 8, kShared = kStages * kRowBytes;

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define XD_HAS_BULK 1
#endif

/// Blocks of one thread, which moves rows through shared memory by the copy unit of the multiprocessor: half of the stages are
/// being loaded, the others stored.
template <bool kPull, int kBytes>
__global__ void __launch_bounds__(1, 1) by_bulk_copies(Site site) {
#ifdef XD_HAS_BULK
  constexpr int kAhead = kStages / 2;
  alignas(128) extern __shared__ unsigned char rows[];
  alignas(8) __shared__ std::uint64_t full[kStages];
  pass_gate(Words{}, site);
  const auto address = [](const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); };
  for (int s = 0; s < kStages; ++s) asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(full + s)));
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  const int num_rows = rows_of<kBytes>(site), all = site.work.passes * num_rows, blocks = gridDim.x;
  const int mine = (all - static_cast<int>(blockIdx.x) + blocks - 1) / blocks;
  const auto row_of = [&](int i) { return (static_cast<int>(blockIdx.x) + i * blocks) % num_rows; };
  const auto load = [&](int i) {
    const int row = row_of(i), stage = i % kStages;
    const std::byte* from = site.from[kPull ? peer_of(site, row) : site.me] + std::int64_t{row} * kBytes;
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(full + stage)), "r"(kBytes)
                 : "memory");
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     address(rows + stage * kBytes)),
                 "l"(__cvta_generic_to_global(from)), "r"(kBytes), "r"(address(full + stage))
                 : "memory");
  };
  for (int i = 0; i < kAhead && i < mine; ++i) load(i);
  for (int i = 0; i < mine; ++i) {
    const int row = row_of(i), stage = i % kStages;
    unsigned ready = 0;
    while (!ready)
      asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                   : "=r"(ready)
                   : "r"(address(full + stage)), "r"(i / kStages & 1)
                   : "memory");
    std::byte* to = site.to[kPull ? site.me : peer_of(site, row)] + std::int64_t{row} * kBytes;
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(to)),
                 "r"(address(rows + stage * kBytes)), "r"(kBytes)
                 : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    // the stage of row i + kAhead was stored from kStages - kAhead groups ago
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kStages - kAhead) : "memory");
    if (i + kAhead < mine) load(i + kAhead);
  }
  asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
  leave(Words{}, site);
#endif
}

bool has_bulk(int device) {
  int major = 0;
  return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
}

}  // namespace

cudaError_t load_bulk_kernels(int device) {
  if (!has_bulk(device)) return cudaSuccess;
  for (auto* kernel :
       {by_bulk_copies<false, kRowBytes>, by_bulk_copies<false, kShortRowBytes>, by_bulk_copies<true, kRowBytes>})
    if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared))
      return error;
  return cudaSuccess;
}

std::vector<Method> bulk_methods(int device) {
  if (!has_bulk(device)) return {};
  const auto launch_of = [](void (*kernel)(Site)) {
    return [kernel](const Site& site, int blocks, StreamHandle stream) -> int {
      kernel<<<blocks, 1, kShared, static_cast<cudaStream_t>(stream)>>>(site);
      return cudaGetLastError();
    };
  };
  return {{"push_bulk", "push, bulk copies", true, kRowBytes, launch_of(by_bulk_copies<false, kRowBytes>)},
          {"push_bulk", "push, bulk copies", true, kShortRowBytes, launch_of(by_bulk_copies<false, kShortRowBytes>)},
          {"pull_bulk", "pull, bulk copies", false, kRowBytes, launch_of(by_bulk_copies<true, kRowBytes>)}};
}

}  // namespace crossdock::tools::cuda
