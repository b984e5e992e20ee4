// SPDX-License-Identifier: Apache-2.0
// The loops for NVIDIA GPUs.
#include "litmus/launch_cuda.hpp"
#include "litmus/litmus_device.hpp"
#include "platform/cuda/cuda_machine_device.hpp"

namespace crossdock::litmus {
namespace {

struct Own {
  __device__ static void fence() { __threadfence_system(); }

  template <class C>
  __device__ static bool bulk_from_a(const C& c, std::uint64_t n) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    alignas(128) __shared__ std::uint32_t rows[kUnits * 4];
    for (int i = c.m.thread(); i < kUnits * 4; i += kThreads) rows[i] = static_cast<std::uint32_t>(n);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    c.m.sync_block();
    if (c.m.thread() == 0) {
      constexpr int kPieces = 8;
      for (int piece = 0; piece < kPieces; ++piece)
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(
                         __cvta_generic_to_global(c.unit(c.loop.far, piece * kUnits / kPieces))),
                     "r"(static_cast<unsigned>(__cvta_generic_to_shared(rows + piece * kUnits / kPieces * 4))),
                     "r"(kUnits / kPieces * 16)
                     : "memory");
      asm volatile("cp.async.bulk.commit_group;" ::: "memory");
      if (c.weak(Weakening::read_wait))
        asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
      else
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
      c.store(c.word(c.loop.far, 0), n, c.weak(Weakening::relaxed_signal));
    }
    return await_answer(c, n);
#else
    return c.give_up();  // older devices have no bulk copies
#endif
  }
};

__global__ void __launch_bounds__(kThreads) loop_kernel(const Loop loop) {
  platform::cuda::wait_for_prior_kernels();
  platform::cuda::CudaMachine m;
  run_loop(m, Own{}, loop);
}

}  // namespace

cudaError_t launch_on_cuda(int blocks, cudaStream_t stream, const Loop* loop) {
  // Early, as the library launches its kernels (docs/adr/0015-early-launches.md).
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &early;
  cudaFuncAttributes attributes{};
  if (const cudaError_t error = cudaFuncGetAttributes(&attributes, loop_kernel); error != cudaSuccess) return error;
  config.numAttrs = attributes.ptxVersion >= 90 ? 1 : 0;
  return cudaLaunchKernelEx(&config, loop_kernel, *loop);
}

}  // namespace crossdock::litmus
