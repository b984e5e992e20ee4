// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <new>

#include "crossdock/cpu_stream.hpp"
#include "platform/cpu/scalar_machine.hpp"
#include "support/device_steps_device.hpp"
#include "support/machine.hpp"

namespace crossdock::testing {
namespace {

struct CpuState : Stream::State {
  CpuStream stream;
  StreamHandle handle() override { return stream.handle(); }
  void enqueue(std::function<void()> call) override { stream.enqueue(std::move(call)); }
  void synchronize() override { stream.synchronize(); }
  void begin_capture() override { stream.begin_capture(); }
  Graph end_capture() override {
    const auto graph = std::make_shared<CpuGraph>(stream.end_capture());
    return {graph, graph->num_calls()};
  }
  void replay(const Graph& graph) override { stream.replay(*static_cast<const CpuGraph*>(graph.recorded.get())); }
};

void enqueue_copy(void* to, const void* from, std::size_t bytes, StreamHandle stream) {
  if (!stream)
    std::memcpy(to, from, bytes);
  else
    static_cast<CpuStream*>(stream)->enqueue([=] { std::memcpy(to, from, bytes); });
}

void step(StepKind kind, StreamHandle stream, const Step& step) {
  static_cast<CpuStream*>(stream)->enqueue([kind, step] {
    platform::cpu::ScalarMachine m;
    switch (kind) {
#define XD_CASE(name)  \
  case StepKind::name: \
    return name(m, step);
      XD_STEPS(XD_CASE)
#undef XD_CASE
    }
  });
}

/// A copy would be a data race with the step that waits.
void post(std::uint32_t* word, int) { platform::cpu::ScalarMachine::add_acq_rel(word, 1); }

}  // namespace

const Machine& cpu_machine() {
  constexpr std::align_val_t kAlign{64};
  static constexpr Machine table{[] { return 1; },
                                 [] { return -1; },
                                 [](int) {},
                                 [] { return std::uint64_t{0}; },
                                 [] { return std::string(); },
                                 [](std::size_t bytes) {
                                   return std::shared_ptr<void>(::operator new(bytes, kAlign),
                                                                [](void* p) { ::operator delete(p, kAlign); });
                                 },
                                 [](void* to, std::uint8_t value, std::size_t bytes) { std::memset(to, value, bytes); },
                                 [](void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); },
                                 enqueue_copy,
                                 [](StreamHandle stream) {
                                   if (stream) static_cast<CpuStream*>(stream)->synchronize();
                                 },
                                 []() -> StreamHandle { return nullptr; },
                                 []() -> std::unique_ptr<Stream::State> { return std::make_unique<CpuState>(); },
                                 step,
                                 post,
                                 nullptr};
  return table;
}

}  // namespace crossdock::testing
