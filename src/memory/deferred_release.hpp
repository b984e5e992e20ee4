// SPDX-License-Identifier: Apache-2.0
// Memory that calls on streams use. It may be given up at any time: what is still in use then is kept, by the process,
// until these calls have ended. Nobody waits for that: a later owner of such memory looks, as it comes or goes.
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
  ~DeferredRelease();  ///< local; frees what no call uses, and keeps the rest
  DeferredRelease(const DeferredRelease&) = delete;
  DeferredRelease& operator=(const DeferredRelease&) = delete;

  /// A reference that is given up with this object, or after it. To be called before calls are marked.
  void hold(platform::BlockPtr block);
  void hold(const PeerMemory& memory);

  /// To be marked behind each call on `stream`. A look at a short list; something is made only where more streams are
  /// busy at once than ever before.
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
  std::list<Holdings> holdings_;  // one; a node, so that to give it away takes no memory
};

}  // namespace crossdock::memory
