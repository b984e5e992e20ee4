// SPDX-License-Identifier: Apache-2.0
// Keeps memory alive until the calls that use it have ended. Every call that is not captured records an event on its
// stream. The destructor frees the memory if all these events have passed. Otherwise it parks the memory in a list of
// the process, which is tried again whenever an object of this class is made or destroyed. Never blocks.
#pragma once

#include <list>
#include <memory>
#include <vector>

#include "memory/peer_memory.hpp"
#include "platform/device.hpp"

namespace crossdock::memory {

class DeferredRelease {
 public:
  explicit DeferredRelease(platform::Device& device);
  ~DeferredRelease();  ///< frees memory that no call uses; does not wait
  DeferredRelease(const DeferredRelease&) = delete;
  DeferredRelease& operator=(const DeferredRelease&) = delete;

  /// Adds memory: keeps a reference until this object is destroyed and all calls have ended. Only before the first
  /// call.
  void hold(platform::BlockPtr block);
  void hold(const PeerMemory& memory);

  /// The event to record on `stream` after each call on it. Searches a short list, and reuses events of idle streams.
  /// So it makes an event only if more streams are busy at once than ever before.
  platform::Event& end_of_calls_on(StreamHandle stream);

 private:
  /// A stream that calls have used, and the end of the last one.
  struct Stream {
    StreamHandle handle;
    std::unique_ptr<platform::Event> end;
  };
  struct Holdings {
    std::vector<Stream> streams;
    std::vector<platform::BlockPtr> blocks;
    bool unused() const;
  };
  class Retired;
  static Retired& retired();

  platform::Device& device_;
  std::list<Holdings> holdings_;  // one element; a list, so that splicing it to retired() allocates nothing
};

}  // namespace crossdock::memory
