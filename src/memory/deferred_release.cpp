// SPDX-License-Identifier: Apache-2.0
#include "memory/deferred_release.hpp"

#include <algorithm>
#include <mutex>

namespace crossdock::memory {

/// The list of parked memory: its owner was destroyed while calls used it.
class DeferredRelease::Retired {
 public:
  void add(std::list<Holdings>& holdings) {
    const std::lock_guard lock(mutex_);
    parked_.splice(parked_.end(), holdings);
  }
  void free_unused() {
    std::list<Holdings> unused;  // destroyed after the lock is released
    const std::lock_guard lock(mutex_);
    for (auto next = parked_.begin(); next != parked_.end();) {
      const auto here = next++;
      if (here->unused()) unused.splice(unused.end(), parked_, here);
    }
  }

 private:
  std::mutex mutex_;
  std::list<Holdings> parked_;
};

/// The list of this process. Never destroyed: the system frees the memory when the process ends.
DeferredRelease::Retired& DeferredRelease::retired() {
  static Retired& all = *new Retired;
  return all;
}

bool DeferredRelease::Holdings::unused() const {
  return std::all_of(streams.begin(), streams.end(), [](const Stream& stream) { return stream.end->passed(); });
}

DeferredRelease::DeferredRelease(platform::Device& device) : device_(device), holdings_(1) {
  retired().free_unused();
  holdings_.front().streams.push_back({nullptr, device_.make_event()});  // here, so that the first call need not
}

DeferredRelease::~DeferredRelease() {
  retired().add(holdings_);
  retired().free_unused();
}

void DeferredRelease::hold(platform::BlockPtr block) { holdings_.front().blocks.push_back(std::move(block)); }
void DeferredRelease::hold(const PeerMemory& memory) {
  for (const platform::BlockPtr& block : memory.blocks()) hold(block);
}

platform::Event& DeferredRelease::end_of_calls_on(StreamHandle handle) {
  std::vector<Stream>& streams = holdings_.front().streams;
  for (const Stream& stream : streams)
    if (stream.handle == handle) return *stream.end;
  for (Stream& stream : streams)
    if (stream.end->passed()) {  // its stream is idle or destroyed
      stream.handle = handle;
      return *stream.end;
    }
  return *streams.emplace_back(Stream{handle, device_.make_event()}).end;
}

}  // namespace crossdock::memory
