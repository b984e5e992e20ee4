// SPDX-License-Identifier: Apache-2.0
#include "support/stream.hpp"

#include <thread>

#include "support/machine.hpp"

namespace crossdock::testing {

Stream::Stream(BackendKind backend) : state_(machine_of(backend).make_stream()) {}
Stream::~Stream() = default;
StreamHandle Stream::handle() { return state_->handle(); }
CallOptions Stream::options() {
  CallOptions options;
  options.stream = handle();
  return options;
}
void Stream::enqueue(std::function<void()> call) { state_->enqueue(std::move(call)); }
void Stream::synchronize() { state_->synchronize(); }
void Stream::begin_capture() { state_->begin_capture(); }
Graph Stream::end_capture() { return state_->end_capture(); }
void Stream::replay(const Graph& graph) { state_->replay(graph); }

void Gate::hold_up(Stream& stream) {
  stream.enqueue([this] {
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (arrived_ < wanted_ && std::chrono::steady_clock::now() < give_up)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
}

}  // namespace crossdock::testing
