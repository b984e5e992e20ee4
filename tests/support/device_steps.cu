// SPDX-License-Identifier: Apache-2.0
#include "support/cuda.hpp"
#include "support/device_steps_cuda.hpp"

namespace crossdock::testing::cuda {
namespace {

constexpr int kBlocks = 32, kThreads = 256;

__global__ void next_turn_kernel(Turn* turn) { ++*turn; }

__global__ void choose_kernel(const Turn* turn, std::uint32_t* to, Versions from) {
  const int n = static_cast<int>(*turn % static_cast<unsigned>(from.count));
  const auto* words = reinterpret_cast<const std::uint32_t*>(from.base + n * from.stride);
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < from.bytes[n] / 4;
       i += kBlocks * kThreads)
    to[i] = words[i];
}

__global__ void compare_kernel(const Turn* turn, const std::uint32_t* is, Versions should, int what,
                               Difference* difference) {
  const int n = static_cast<int>(*turn % static_cast<unsigned>(should.count));
  const auto* words = reinterpret_cast<const std::uint32_t*>(should.base + n * should.stride);
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < should.bytes[n] / 4;
       i += kBlocks * kThreads)
    if (is[i] != words[i]) {
      if (atomicAdd(&difference->number, 1ull) != 0) continue;
      difference->turn = *turn + 1;
      difference->what = static_cast<unsigned long long>(what);
    }
}

__global__ void delay_kernel(const Turn* turn, int rank, int most_us) {
  const std::uint64_t draw = (*turn * 8 + static_cast<unsigned>(rank)) * 0x9e3779b97f4a7c15u >> 33;
  if (draw % 4 != 0) return;
  const std::uint64_t ns = draw / 4 % static_cast<unsigned>(most_us) * 1000;
  std::uint64_t began, now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(began));
  do {
    __nanosleep(100);
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - began < ns);
}

cudaStream_t of(StreamHandle stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

void next_turn(StreamHandle stream, Turn* turn) {
  next_turn_kernel<<<1, 1, 0, of(stream)>>>(turn);
  check(cudaGetLastError());
}
void choose(StreamHandle stream, const Turn* turn, void* to, const Versions& from) {
  choose_kernel<<<kBlocks, kThreads, 0, of(stream)>>>(turn, static_cast<std::uint32_t*>(to), from);
  check(cudaGetLastError());
}
void compare(StreamHandle stream, const Turn* turn, const void* is, const Versions& should, int what,
             Difference* difference) {
  compare_kernel<<<kBlocks, kThreads, 0, of(stream)>>>(turn, static_cast<const std::uint32_t*>(is), should, what,
                                                       difference);
  check(cudaGetLastError());
}
void delay(StreamHandle stream, const Turn* turn, int rank, int most_us) {
  delay_kernel<<<1, 1, 0, of(stream)>>>(turn, rank, most_us);
  check(cudaGetLastError());
}

}  // namespace crossdock::testing::cuda
