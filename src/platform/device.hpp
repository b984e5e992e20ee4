// SPDX-License-Identifier: Apache-2.0
// The host half of a backend: memory and its sharing, small copies, events, and checks of pointers and streams.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "crossdock/types.hpp"
#include "platform/share.hpp"

namespace crossdock::platform {

/// A mapping of memory in this process. The destructor removes it. The memory is freed with its last mapping in any
/// process.
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

/// A point in the work of a stream.
class Event {
 public:
  virtual ~Event() = default;
  /// Records the event after all work enqueued on `stream`. The stream must not be capturing; it may be destroyed
  /// afterwards. For the null stream the device must be current.
  virtual void mark(StreamHandle stream) noexcept = 0;
  /// True if the work before the event has ended. Does not wait. True before the first mark. True after an error of the
  /// device, which then runs no more work.
  virtual bool passed() const noexcept = 0;
};

/// Limits of a device that launch geometries depend on.
struct Limits {
  int num_sms = 1;
  int width = 1;        ///< threads per warp
  int max_threads = 1;  ///< per block
};

/// Identifies a device among all devices of the host.
using DeviceId = std::array<std::uint64_t, 2>;

/// One device of a backend, as one rank uses it. Functions throw SystemError if a call of the driver fails.
class Device {
 public:
  virtual ~Device() = default;
  virtual BackendKind kind() const = 0;
  virtual int ordinal() const = 0;
  /// Identifies the device in every process, whatever its ordinal there. A backend without such an id uses the ordinal.
  virtual DeviceId id() const { return {0, static_cast<std::uint64_t>(ordinal())}; }
  virtual Limits limits() const = 0;
  /// The driver's name of the device. A tuning file is valid for all devices of one name.
  virtual std::string model() const = 0;

  /// Allocates zeroed memory for kernels of this device. `share`: how other processes will map it.
  virtual BlockPtr allocate(std::uint64_t bytes, Share share) = 0;
  /// Allocates zeroed host memory. Kernels write it, and the host can read it while they run.
  virtual BlockPtr allocate_host_visible(std::uint64_t bytes) = 0;
  virtual ShareOffer share_offer() const = 0;
  /// A descriptor of `block` for another process; owned by the caller.
  virtual int export_descriptor(const Block& block) = 0;
  /// Maps memory that a peer exported. The descriptor stays the caller's.
  virtual BlockPtr import_descriptor(int descriptor, std::uint64_t bytes) = 0;
  /// The same for Share::handle: the handle is up to 64 bytes, which the ranks exchange.
  virtual std::string export_handle(const Block& block) = 0;
  virtual BlockPtr import_handle(const std::string& handle, std::uint64_t bytes) = 0;
  /// Gives kernels of this device access to memory of another rank of this process.
  virtual void enable_peer_access(const BlockPtr& block) = 0;
  /// Empty if kernels of this device can access memory of device `other_ordinal`, else the reason.
  virtual std::string peer_access_error(int other_ordinal) = 0;
  /// The same for a device by its id. Empty also if this process does not see the device: mapping its memory then
  /// fails.
  virtual std::string peer_access_error_by_id(const DeviceId& other) {
    return peer_access_error(static_cast<int>(other[1]));
  }

  /// A named range on the host's timeline for a profiler. Costs next to nothing if no profiler is attached.
  virtual void begin_range(const char*) {}
  virtual void end_range() {}

  /// Fills memory; complete on return.
  virtual void fill(void* to, std::uint8_t value, std::uint64_t bytes) = 0;
  /// Fills memory in the order of `stream`; does not wait. The device must be current.
  virtual void fill_on(StreamHandle stream, void* to, std::uint8_t value, std::uint64_t bytes) = 0;
  /// Writes a few bytes to device memory, in order with other async writes. Does not wait for running kernels. `from`
  /// is pageable host memory and may be reused on return.
  virtual void write_async(void* to, const void* from, std::uint64_t bytes) = 0;
  /// Copies a few bytes from device memory; complete on return. Does not wait for running kernels.
  virtual void read_sync(void* to, const void* from, std::uint64_t bytes) = 0;
  /// Writes one word after all earlier async writes, as a release.
  virtual void write_word_async(std::uint64_t* to, std::uint64_t value) = 0;

  virtual std::unique_ptr<Event> make_event() = 0;
  /// Records `event` after all async writes so far. Does nothing on a backend whose writes are complete on return.
  virtual void mark_writes(Event& /*event*/) noexcept {}

  /// Empty if kernels of this device can access the pointer, else the reason.
  virtual std::string pointer_error(const void* pointer) = 0;
  /// True if the stream is capturing. UsageError if it belongs to another device.
  virtual bool check_stream(StreamHandle stream) = 0;
  /// Waits until all work on the stream has run. The device must be current.
  virtual void wait_for(StreamHandle stream) = 0;

  /// Makes this device current in the calling thread. Returns the ordinal to pass to restore_device().
  virtual int make_current() { return 0; }
  virtual void restore_device(int) {}
};

/// RAII: makes a device current in the calling thread.
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

/// RAII: a named range for a profiler.
class Range {
 public:
  Range(Device& device, const char* name) : device_(device) { device_.begin_range(name); }
  ~Range() { device_.end_range(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  Device& device_;
};

/// Number of devices; 0, with the reason in `note`, if the backend cannot be used. Never throws.
int num_devices(BackendKind kind, const char** note);

/// Opens device `ordinal`; -1: the current one. TopologyError if there is no such device.
std::shared_ptr<Device> open_device(BackendKind kind, int ordinal);

/// Allocations on a GPU are multiples of this many bytes.
inline constexpr std::uint64_t kGpuPageBytes = std::uint64_t{2} << 20;
/// Granularity of allocations on a backend, in bytes.
std::uint64_t page_bytes_of(BackendKind kind);

}  // namespace crossdock::platform
