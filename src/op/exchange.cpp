// SPDX-License-Identifier: Apache-2.0
// Exchange except dispatch and combine: construction, queries, and functions for debugging.

#include "crossdock/exchange.hpp"

#include <algorithm>

#include "op/check_call.hpp"
#include "op/shape.hpp"

namespace crossdock {

using detail::ExchangeState;

Exchange::Exchange(const Group& group, const Config& config) {
  if (!group.state_) throw StateError("Exchange: the group was moved from or closed");
  state_ = std::make_shared<ExchangeState>(group.state_, config);
}
Exchange::Exchange(Exchange&&) noexcept = default;
Exchange& Exchange::operator=(Exchange&&) noexcept = default;
Exchange::~Exchange() = default;

const Config& Exchange::config() const { return op::state_of(state_, "Exchange::config").config; }
MemoryUsage Exchange::memory() const {
  const ExchangeState& e = op::state_of(state_, "Exchange::memory");
  MemoryUsage usage = op::memory_usage_of(e.shape, platform::page_bytes_of(e.group->device().kind()));
  usage.total_bytes = e.memory.bytes() + e.report_block->bytes();  // what is allocated, not what was computed
  return usage;
}

void Exchange::debug_fill(void* memory, std::uint64_t bytes, StreamHandle stream) {
  ExchangeState& e = op::state_of(state_, "Exchange::debug_fill");
  platform::Device& device = e.group->device();
  const bool capturing = device.check_stream(stream);
  const platform::CurrentDevice current(device);
  const detail::StreamMark mark(e, stream, capturing);
  device.fill_on(stream, memory, 0xff, bytes);
}

void Exchange::read(void* to, const void* memory, std::uint64_t bytes, StreamHandle stream) const {
  platform::Device& device = op::state_of(state_, "Exchange::read").group->device();
  if (device.check_stream(stream))
    throw StateError("Exchange::read: the stream is capturing, so nothing has run; end the capture, replay, then read");
  const platform::CurrentDevice current(device);
  device.wait_for(stream);
  device.read_sync(to, memory, bytes);
}

LaunchInfo Exchange::last_launch() const { return op::state_of(state_, "Exchange::last_launch").last_launch; }

std::vector<TraceEvent> Exchange::trace() const {
  const ExchangeState& e = op::state_of(state_, "Exchange::trace");
  std::vector<TraceEvent> all;
  const std::uint32_t most = e.shape.trace_events;
  for (int buffer_set = 0; most && buffer_set < e.shape.max_in_flight; ++buffer_set) {
    std::uint32_t taken = 0;
    e.group->device().read_sync(&taken, e.local<void>(e.arena.buffer_set_at(buffer_set, e.arena.buffer_set.trace_head)),
                                sizeof taken);
    if (taken == 0) continue;
    std::vector<TraceEvent> ring(min(taken, most));
    e.group->device().read_sync(ring.data(), e.local<void>(e.arena.buffer_set_at(buffer_set, e.arena.buffer_set.trace)),
                                ring.size() * sizeof(TraceEvent));
    // Rotates the ring, so that the oldest event is first. Clocks are coarse and many time stamps are equal; the stable
    // sort keeps their order.
    if (taken > most) std::rotate(ring.begin(), ring.begin() + taken % most, ring.end());
    for (TraceEvent& event : ring) event.buffer_set = static_cast<std::int16_t>(buffer_set);
    all.insert(all.end(), ring.begin(), ring.end());
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const TraceEvent& a, const TraceEvent& b) { return a.time_ns < b.time_ns; });
  return all;
}

Status Exchange::poll() const { return op::state_of(state_, "Exchange::poll").poll(); }
void Exchange::clear_status() { op::state_of(state_, "Exchange::clear_status").clear_status(); }
void Exchange::close() {
  if (state_) state_->closed = true;
}

}  // namespace crossdock
