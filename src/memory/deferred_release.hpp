// SPDX-License-Identifier: Apache-2.0
// Memory that calls on streams use. The owner may be destroyed at any time. Its memory is freed if the marked streams
// are done; otherwise the process holds it and tries again whenever an owner is made or destroyed. Never blocks.
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

  /// Holds a reference until this object is destroyed and all marked calls have ended. Call it before the first mark.
  void hold(platform::BlockPtr block);
  void hold(const PeerMemory& memory);

  /// The event to record on `stream` after each call on it. Searches a short list; makes an event only if more streams
  /// are busy at once than ever before.
  platform::Event& end_of_calls_on(StreamHandle stream);

 private:
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
