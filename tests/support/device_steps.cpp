// SPDX-License-Identifier: Apache-2.0
// The steps on the CPU.
#include "support/device_steps.hpp"

#include <chrono>
#include <cstring>
#include <thread>

#include "crossdock/cpu_stream.hpp"
#include "support/device_steps_cuda.hpp"
#include "support/rank_memory.hpp"

namespace crossdock::testing {
namespace {

template <class Step, class CudaStep>
void enqueue(StreamHandle stream, Step step, CudaStep cuda_step) {
  if (backend_of_tests() == BackendKind::cuda)
    cuda_step();
  else
    static_cast<CpuStream*>(stream)->enqueue(step);
}

}  // namespace

void enqueue_next_turn(StreamHandle stream, Turn* turn) {
  enqueue(
      stream, [=] { ++*turn; }, [=] { cuda::next_turn(stream, turn); });
}

void enqueue_choose(StreamHandle stream, const Turn* turn, void* to, const Versions& from) {
  const auto step = [=] {
    const auto n = static_cast<std::int64_t>(*turn % static_cast<unsigned>(from.count));
    if (from.bytes[n]) std::memcpy(to, from.base + n * from.stride, static_cast<std::size_t>(from.bytes[n]));
  };
  enqueue(stream, step, [=] { cuda::choose(stream, turn, to, from); });
}

void enqueue_compare(StreamHandle stream, const Turn* turn, const void* is, const Versions& should, int what,
                     Difference* difference) {
  const auto step = [=] {
    const auto n = static_cast<std::int64_t>(*turn % static_cast<unsigned>(should.count));
    const auto* a = static_cast<const std::uint8_t*>(is);
    const std::uint8_t* b = should.base + n * should.stride;
    for (std::int64_t i = 0; i < should.bytes[n]; i += 4) {
      if (std::memcmp(a + i, b + i, 4) == 0) continue;
      if (difference->number++ == 0)
        difference->turn = *turn + 1, difference->what = static_cast<unsigned long long>(what);
    }
  };
  enqueue(stream, step, [=] { cuda::compare(stream, turn, is, should, what, difference); });
}

void enqueue_delay(StreamHandle stream, const Turn* turn, int rank, int most_us) {
  const auto step = [=] {
    const std::uint64_t draw = (*turn * 8 + static_cast<unsigned>(rank)) * 0x9e3779b97f4a7c15u >> 33;
    if (draw % 4 == 0)
      std::this_thread::sleep_for(std::chrono::microseconds(draw / 4 % static_cast<unsigned>(most_us)));
  };
  enqueue(stream, step, [=] { cuda::delay(stream, turn, rank, most_us); });
}

}  // namespace crossdock::testing
