// SPDX-License-Identifier: Apache-2.0
// The host half of a machine: memory, its sharing, and checks of pointers and streams. It knows nothing of tokens.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "crossdock/types.hpp"
#include "platform/share.hpp"

namespace crossdock::platform {

/// Mapped memory; the destructor unmaps, and frees it once nobody else maps it.
class Block {
 public:
  virtual ~Block() = default;
  std::byte* data() const { return data_; }
  std::uint64_t bytes() const { return bytes_; }

 protected:
  std::byte* data_ = nullptr;
  std::uint64_t bytes_ = 0;
};
using BlockPtr = std::shared_ptr<Block>;

/// A point in the work of a stream; tells without waiting whether it has passed.
class Event {
 public:
  virtual ~Event() = default;
  /// Moves it behind all that has been enqueued on `stream`, which may not be capturing and may be destroyed after.
  /// For the null stream the device must be current.
  virtual void mark(StreamHandle stream) noexcept = 0;
  /// Also true before the first mark, and when the device has failed: it runs nothing more.
  virtual bool passed() const noexcept = 0;
};

/// What geometry rules need to know.
struct Limits {
  int num_sms = 1;
  int width = 1;        ///< threads per warp
  int max_threads = 1;  ///< per block
};

/// Names a device among all of the host.
using DeviceId = std::array<std::uint64_t, 2>;

class Device {
 public:
  virtual ~Device() = default;
  virtual BackendKind kind() const = 0;
  virtual int ordinal() const = 0;
  /// The same in every process, whatever number the device has there; its number where a backend has no better.
  virtual DeviceId id() const { return {0, static_cast<std::uint64_t>(ordinal())}; }
  virtual Limits limits() const = 0;
  /// What its driver calls it: the same name for devices that are as fast.
  virtual std::string model() const = 0;

  /// Zeroed memory that kernels of this device and, by `share`, other processes can reach.
  virtual BlockPtr allocate(std::uint64_t bytes, Share share) = 0;
  /// Zeroed memory that kernels write and the host reads at once.
  virtual BlockPtr allocate_host_visible(std::uint64_t bytes) = 0;
  virtual ShareOffer share_offer() const = 0;
  /// A descriptor of `block` for another process; owned by the caller.
  virtual int export_descriptor(const Block& block) = 0;
  /// Maps what a peer exported; does not take the descriptor over.
  virtual BlockPtr import_descriptor(int descriptor, std::uint64_t bytes) = 0;
  /// The same by an opaque value of up to 64 bytes (Share::handle).
  virtual std::string export_handle(const Block& block) = 0;
  virtual BlockPtr import_handle(const std::string& handle, std::uint64_t bytes) = 0;
  /// Makes memory of another rank of this process reachable from this device.
  virtual void enable_peer_access(const BlockPtr& block) = 0;
  /// An empty text if kernels of this device can use memory of `other`, else the reason.
  virtual std::string peer_access_error(int other_ordinal) = 0;
  virtual std::string peer_access_error_by_id(const DeviceId& other) {
    return peer_access_error(static_cast<int>(other[1]));
  }

  /// A named span on the host's timeline, for a profiler that listens; as good as nothing if none does.
  virtual void begin_range(const char*) {}
  virtual void end_range() {}

  /// Fills memory; done when it returns.
  virtual void fill(void* to, std::uint8_t value, std::uint64_t bytes) = 0;
  /// The same in the order of `stream`; waits for nothing. The device must be current.
  virtual void fill_on(StreamHandle stream, void* to, std::uint8_t value, std::uint64_t bytes) = 0;
  /// Writes a few bytes without waiting for running kernels; in order with other posts.
  virtual void write_async(void* to, const void* from, std::uint64_t bytes) = 0;
  /// Copies a few bytes to the host without waiting for running kernels.
  virtual void read_sync(void* to, const void* from, std::uint64_t bytes) = 0;
  /// Writes one word after all earlier posts, as a release.
  virtual void write_word_async(std::uint64_t* to, std::uint64_t value) = 0;

  virtual std::unique_ptr<Event> make_event() = 0;
  /// Moves a moment behind all posts so far; where they are done when they return there is nothing to do.
  virtual void mark_writes(Event&) noexcept {}

  /// Empty if kernels of this device can use the pointer, else what it is.
  virtual std::string pointer_error(const void* pointer) = 0;
  /// UsageError unless the stream belongs to this device; true if it is capturing.
  virtual bool check_stream(StreamHandle stream) = 0;
  /// Waits until all that is on the stream has run. The device must be current.
  virtual void wait_for(StreamHandle stream) = 0;

  /// Makes this device the calling thread's current one; returns what restore_device() restores.
  virtual int make_current() { return 0; }
  virtual void restore_device(int) {}
};

/// A device is current while this lives.
class CurrentDevice {
 public:
  explicit CurrentDevice(Device& device) : device_(device), before_(device.make_current()) {}
  ~CurrentDevice() { device_.restore_device(before_); }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  Device& device_;
  int before_;
};

/// A range of the device's timeline while this lives.
class Range {
 public:
  Range(Device& device, const char* name) : device_(device) { device_.begin_range(name); }
  ~Range() { device_.end_range(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  Device& device_;
};

/// Number of devices, 0 if the machine cannot be used; `note` then says why. Never throws.
int num_devices(BackendKind kind, const char** note);

/// Opens a device; -1 is the current one. Throws TopologyError if there is none.
std::shared_ptr<Device> open_device(BackendKind kind, int ordinal);

/// Granularity of allocations.
inline constexpr std::uint64_t kGpuPageBytes = std::uint64_t{2} << 20;
std::uint64_t page_bytes_of(BackendKind kind);

}  // namespace crossdock::platform
