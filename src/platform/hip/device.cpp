// SPDX-License-Identifier: Apache-2.0
// An AMD GPU as a Device. Small copies use a stream of their own, so they do not wait for running kernels.

#include "platform/hip/device.hpp"

#include <algorithm>
#include <cstring>

#include "platform/hip/arithmetic.hpp"
#include "platform/hip/code_objects.hpp"
#include "platform/hip/driver.hpp"
#include "platform/hip/memory.hpp"

namespace crossdock::platform::hip {
namespace {

int attribute(hipDeviceAttribute_t which, int ordinal, const char* what) {
  int value = 0;
  check(driver().device_attribute(&value, which, ordinal),
        std::string("asking device ") + std::to_string(ordinal) + " for its " + what);
  return value;
}

DeviceId id_of(int ordinal) {
  hipUUID uuid{};
  check(driver().device_uuid(&uuid, ordinal), "asking device " + std::to_string(ordinal) + " for its id");
  DeviceId id;
  static_assert(sizeof id == sizeof uuid);
  std::memcpy(&id, &uuid, sizeof id);
  return id;
}

/// TopologyError if the library has no code for the device, or the code assumes another wave size or clock.
void check_fits(int ordinal) {
  (void)code_object_of(ordinal);
  const int width = attribute(hipDeviceAttributeWarpSize, ordinal, "waves");
  if (width != kWidth)
    throw TopologyError("backend hip: device " + std::to_string(ordinal) + " has waves of " + std::to_string(width) +
                        "; the code was compiled for " + std::to_string(kWidth) + ". Choose cpu");
  const int khz = attribute(kWallClockRate, ordinal, "clock");
  if (khz != kClockKhz)
    throw TopologyError("backend hip: device " + std::to_string(ordinal) + " has a wall clock of " +
                        std::to_string(khz) + " kHz; deadlines need " + std::to_string(kClockKhz) +
                        " kHz, as gfx942 and gfx950 have. Choose cpu");
}

/// A HIP event without timing.
class HipEvent : public Event {
 public:
  explicit HipEvent(int ordinal) : ordinal_(ordinal) {
    const Current current(ordinal_);
    check(driver().event_create(&event_, hipEventDisableTiming), "creating an event");
  }
  ~HipEvent() override {
    const Current current(ordinal_, std::nothrow);
    (void)driver().event_destroy(event_);
  }

  void mark(StreamHandle stream) noexcept override {
    if (driver().event_record(event_, static_cast<hipStream_t>(stream)) != hipSuccess) (void)driver().get_last_error();
  }
  bool passed() const noexcept override {
    const Current current(ordinal_, std::nothrow);
    auto mode = hipStreamCaptureModeRelaxed;  // a query in another mode would invalidate captures of other streams
    (void)driver().capture_mode(&mode);
    const hipError_t answer = driver().event_query(event_);
    (void)driver().capture_mode(&mode);
    if (answer != hipSuccess) (void)driver().get_last_error();
    return answer != hipErrorNotReady;
  }

 private:
  int ordinal_;
  hipEvent_t event_ = nullptr;
};

class HipDevice : public Device {
 public:
  explicit HipDevice(int ordinal) : ordinal_(ordinal), id_(id_of(ordinal)), offer_(offer()) {
    check_fits(ordinal_);
    const Current current(ordinal_);
    num_cus_ = attribute(hipDeviceAttributeMultiprocessorCount, ordinal_, "compute units");
    max_threads_ = attribute(hipDeviceAttributeMaxThreadsPerBlock, ordinal_, "largest block");
    // The side stream has the highest priority. Callers' streams usually have another one, and then share no hardware
    // queue with it: a small copy does not wait behind their kernels.
    int least = 0, most = 0;
    check(driver().stream_priorities(&least, &most), "reading stream priorities");
    check(driver().stream_create(&side_stream_, hipStreamNonBlocking, most), "creating a stream");
  }
  ~HipDevice() override { (void)driver().stream_destroy(side_stream_); }

  BackendKind kind() const override { return BackendKind::hip; }
  int ordinal() const override { return ordinal_; }
  DeviceId id() const override { return id_; }
  Limits limits() const override { return {num_cus_, kWidth, max_threads_}; }
  std::string model() const override {
    char name[256] = {};
    check(driver().device_name(name, sizeof name, ordinal_),
          "asking device " + std::to_string(ordinal_) + " for its name");
    return name;
  }

  BlockPtr allocate(std::uint64_t bytes, Share share) override {
    const bool mapped = (share == Share::none ? offer_.wanted : share) == Share::descriptor;
    const std::uint64_t page = mapped ? std::max(granularity(ordinal_), kGpuPageBytes) : kGpuPageBytes;
    const std::uint64_t rounded = (bytes + page - 1) / page * page;
    BlockPtr block = mapped ? allocate_mapped(ordinal_, rounded) : allocate_plain(ordinal_, rounded);
    fill(block->data(), 0, rounded);
    return block;
  }
  BlockPtr allocate_host_visible(std::uint64_t bytes) override { return allocate_pinned(ordinal_, bytes); }
  ShareOffer share_offer() const override { return offer_; }
  int export_descriptor(const Block& block) override { return export_mapped(block); }
  BlockPtr import_descriptor(int descriptor, std::uint64_t bytes) override {
    return import_mapped(ordinal_, descriptor, bytes);
  }
  std::string export_handle(const Block& block) override { return export_plain(block); }
  BlockPtr import_handle(const std::string& handle, std::uint64_t bytes) override {
    return import_plain(ordinal_, handle, bytes);
  }
  void enable_peer_access(const BlockPtr& block) override { static_cast<const DeviceBlock&>(*block).grant(ordinal_); }

  std::string peer_access_error(int other) override {
    if (other == ordinal_) return {};
    int reachable = 0;
    check(driver().can_access_peer(&reachable, ordinal_, other), "hipDeviceCanAccessPeer");
    return reachable ? ""
                     : "the driver reports no peer access between them; choose devices joined by xGMI, or one PCIe "
                       "root with IOMMU passthrough";
  }
  std::string peer_access_error_by_id(const DeviceId& other) override {
    int count = 0;
    check(driver().get_device_count(&count), "hipGetDeviceCount");
    for (int ordinal = 0; ordinal < count; ++ordinal)
      if (id_of(ordinal) == other) return peer_access_error(ordinal);
    return {};  // the device is not visible to this process; mapping its memory fails if there is no access
  }

  void fill(void* to, std::uint8_t value, std::uint64_t bytes) override {
    const Current current(ordinal_);
    check(driver().set_async(to, value, bytes, side_stream_), "filling memory");
    check(driver().stream_synchronize(side_stream_), "filling memory");
  }
  void fill_on(StreamHandle stream, void* to, std::uint8_t value, std::uint64_t bytes) override {
    check(driver().set_async(to, value, bytes, static_cast<hipStream_t>(stream)), "filling memory on a stream");
  }
  void write_async(void* to, const void* from, std::uint64_t bytes) override {
    copy(to, from, bytes, "writing to device memory");
  }
  void write_word_async(std::uint64_t* to, std::uint64_t value) override { write_async(to, &value, sizeof value); }
  void read_sync(void* to, const void* from, std::uint64_t bytes) override {
    copy(to, from, bytes, "reading device memory");
  }

  std::unique_ptr<Event> make_event() override { return std::make_unique<HipEvent>(ordinal_); }

  std::string pointer_error(const void* pointer) override {
    int type = 0, ordinal = -1;
    void* address = const_cast<void*>(pointer);
    if (driver().pointer_attribute(&type, HIP_POINTER_ATTRIBUTE_MEMORY_TYPE, address) != hipSuccess ||
        type != kDeviceMemory) {
      (void)driver().get_last_error();
      return "is a host pointer; pass memory of device " + std::to_string(ordinal_);
    }
    check(driver().pointer_attribute(&ordinal, HIP_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address),
          "asking a pointer for its device");
    if (ordinal == ordinal_) return {};
    return "lies on device " + std::to_string(ordinal) + "; pass memory of device " + std::to_string(ordinal_);
  }

  bool check_stream(StreamHandle stream) override {
    if (!stream) return false;
    hipStreamCaptureStatus capturing{};
    const Current current(ordinal_);
    check(driver().stream_is_capturing(static_cast<hipStream_t>(stream), &capturing),
          "asking a stream whether it captures");
    if (capturing != hipStreamCaptureStatusNone) return true;  // its device cannot be queried
    const int ordinal = driver().stream_device(static_cast<hipStream_t>(stream));
    if (ordinal != ordinal_)
      throw UsageError("stream belongs to device " + std::to_string(ordinal) + "; the group is on device " +
                       std::to_string(ordinal_));
    return false;
  }

  void wait_for(StreamHandle stream) override {
    check(driver().stream_synchronize(static_cast<hipStream_t>(stream)), "waiting for a stream");
  }

  int make_current() override {
    int before = 0;
    check(driver().get_device(&before), "hipGetDevice");
    if (before != ordinal_) check(driver().set_device(ordinal_), "hipSetDevice");
    return before;
  }
  void restore_device(int before) override {
    if (before != ordinal_) (void)driver().set_device(before);
  }

 private:
  /// Copies on the side stream and waits for it: the runtime may still access the host's bytes when copy_async returns.
  void copy(void* to, const void* from, std::uint64_t bytes, const char* what) {
    const Current current(ordinal_);
    check(driver().copy_async(to, from, bytes, hipMemcpyDefault, side_stream_), what);
    check(driver().stream_synchronize(side_stream_), what);
  }

  /// Prefers IPC handles, by which this backend shares fine-grained memory: AMD documents it only for
  /// hipExtMallocWithFlags. No device attribute shows whether descriptors work; this assumes that they do.
  static ShareOffer offer() { return platform::share_offer(Share::handle, true); }

  int ordinal_;
  DeviceId id_;
  ShareOffer offer_;
  int num_cus_ = 0, max_threads_ = 0;
  hipStream_t side_stream_ = nullptr;
};

}  // namespace

std::shared_ptr<Device> open_device(int ordinal) {
  const char* note = nullptr;
  const int count = num_devices(&note);
  if (count == 0) throw TopologyError(std::string("backend hip: ") + note + "; choose cpu");
  if (ordinal < 0) check(driver().get_device(&ordinal), "hipGetDevice");
  if (ordinal >= count)
    throw TopologyError("backend hip: device " + std::to_string(ordinal) + "; there are " + std::to_string(count) +
                        " (0 to " + std::to_string(count - 1) + "), as HIP_VISIBLE_DEVICES numbers them");
  return std::make_shared<HipDevice>(ordinal);
}

}  // namespace crossdock::platform::hip
