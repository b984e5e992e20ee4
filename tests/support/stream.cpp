// SPDX-License-Identifier: Apache-2.0
#include "support/stream.hpp"

#include "support/machine.hpp"

namespace crossdock::testing {
namespace {

int us_of(std::chrono::microseconds time) { return static_cast<int>(time.count()); }

}  // namespace

Stream::Stream(BackendKind backend) : backend_(backend), state_(machine_of(backend).make_stream()) {}
Stream::~Stream() = default;
StreamHandle Stream::handle() { return state_->handle(); }
CallOptions Stream::options() {
  CallOptions options;
  options.stream = handle();
  return options;
}
void Stream::enqueue(std::function<void()> call) { state_->enqueue(std::move(call)); }
void Stream::pause(std::chrono::microseconds time) {
  machine_of(backend_).step(StepKind::pause, handle(), {.us = us_of(time)});
}
void Stream::hold(std::uint32_t* word) {
  machine_of(backend_).step(StepKind::hold, handle(), {.words = word, .us = us_of(kPatience)});
}
void Stream::meet(std::uint32_t* words, int num_blocks) {
  machine_of(backend_).step(StepKind::meet, handle(), {.words = words, .what = num_blocks, .us = us_of(kPatience)});
}
void Stream::synchronize() { state_->synchronize(); }
void Stream::begin_capture() { state_->begin_capture(); }
Graph Stream::end_capture() { return state_->end_capture(); }
void Stream::replay(const Graph& graph) { state_->replay(graph); }

void Gate::arrive() {
  const std::lock_guard lock(mutex_);
  if (++arrived_ != wanted_) return;
  for (const Word& word : words_) machine_of(backend_).post(word.memory.as<std::uint32_t>(), word.device);
}

void Gate::hold_up(Stream& stream) {
  const std::lock_guard lock(mutex_);
  if (arrived_ >= wanted_) return;
  words_.push_back({current_device(backend_), Buffer(backend_, sizeof(std::uint32_t), 0)});
  stream.hold(words_.back().memory.as<std::uint32_t>());
}

}  // namespace crossdock::testing
