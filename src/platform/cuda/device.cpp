// SPDX-License-Identifier: Apache-2.0
// An NVIDIA GPU as a Device. Small copies use a stream of their own, so they do not wait for running kernels.

#include "platform/cuda/device.hpp"

#include <cstring>
#include <vector>

#include "platform/cuda/driver.hpp"
#include "platform/cuda/memory.hpp"
#include "platform/cuda/ranges.hpp"

namespace crossdock::platform::cuda {
namespace {

/// A CUDA event. It has no timing, because events with timing take longer to record.
class CudaEvent : public Event {
 public:
  explicit CudaEvent(int ordinal) : ordinal_(ordinal) {
    const Current current(ordinal_);
    check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "creating an event");
  }
  ~CudaEvent() override {
    const Current current(ordinal_, std::nothrow);
    cudaEventDestroy(event_);
  }

  void mark(StreamHandle stream) noexcept override {
    if (cudaEventRecord(event_, static_cast<cudaStream_t>(stream)) != cudaSuccess) (void)cudaGetLastError();
  }
  bool passed() const noexcept override {
    const Current current(ordinal_, std::nothrow);
    auto mode = cudaStreamCaptureModeRelaxed;  // a query in another mode would invalidate captures of other streams
    cudaThreadExchangeStreamCaptureMode(&mode);
    const cudaError_t answer = cudaEventQuery(event_);
    cudaThreadExchangeStreamCaptureMode(&mode);
    if (answer != cudaSuccess) (void)cudaGetLastError();
    return answer != cudaErrorNotReady;
  }

 private:
  int ordinal_;
  cudaEvent_t event_ = nullptr;
};

class CudaDevice : public Device {
 public:
  explicit CudaDevice(int ordinal)
      : ordinal_(ordinal),
        id_(id_of(ordinal)),
        offer_(platform::share_offer(Share::descriptor, exports_descriptors(ordinal))) {
    ranges::initialize();  // here and not in the first call, because it is slow
    Current current(ordinal_);
    check(cudaFree(nullptr), "opening device " + std::to_string(ordinal));  // creates the context
    // The side stream has the highest priority. Callers' streams usually have another one, and then share no hardware
    // queue with it: a small copy does not wait behind their kernels.
    int least = 0, most = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &most), "reading stream priorities");
    check(cudaStreamCreateWithPriority(&side_stream_, cudaStreamNonBlocking, most), "creating a stream");
    check(cudaDeviceGetAttribute(&num_sms_, cudaDevAttrMultiProcessorCount, ordinal_), "counting multiprocessors");
  }
  ~CudaDevice() override { cudaStreamDestroy(side_stream_); }

  BackendKind kind() const override { return BackendKind::cuda; }
  int ordinal() const override { return ordinal_; }
  Limits limits() const override { return {num_sms_, 32, 1024}; }
  std::string model() const override {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, ordinal_), "reading device properties");
    return properties.name;
  }

  BlockPtr allocate(std::uint64_t bytes, Share share) override {
    const bool mapped = offer_.has_descriptors && share != Share::handle;
    const std::uint64_t page = mapped ? granularity(ordinal_) : kGpuPageBytes;
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

  DeviceId id() const override { return id_; }
  std::string peer_access_error(int other) override {
    if (other == ordinal_) return {};
    int reachable = 0;
    check(cudaDeviceCanAccessPeer(&reachable, ordinal_, other), "cudaDeviceCanAccessPeer");
    return reachable ? ""
                     : "the driver reports no peer access between them; choose devices on one NVLink or PCIe switch";
  }
  std::string peer_access_error_by_id(const DeviceId& other) override {
    int count = 0;
    check(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
    for (int ordinal = 0; ordinal < count; ++ordinal)
      if (id_of(ordinal) == other) return peer_access_error(ordinal);
    return {};  // the device is not visible to this process; mapping its memory fails if there is no access
  }

  void begin_range(const char* name) override { ranges::begin(name); }
  void end_range() override { ranges::end(); }

  void fill(void* to, std::uint8_t value, std::uint64_t bytes) override {
    Current current(ordinal_);
    check(cudaMemsetAsync(to, value, bytes, side_stream_), "filling memory");
    check(cudaStreamSynchronize(side_stream_), "filling memory");
  }
  void fill_on(StreamHandle stream, void* to, std::uint8_t value, std::uint64_t bytes) override {
    check(cudaMemsetAsync(to, value, bytes, static_cast<cudaStream_t>(stream)), "filling memory on a stream");
  }
  void write_async(void* to, const void* from, std::uint64_t bytes) override {
    Current current(ordinal_);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, side_stream_), "writing to device memory");
  }
  void write_word_async(std::uint64_t* to, std::uint64_t value) override { write_async(to, &value, sizeof value); }
  void read_sync(void* to, const void* from, std::uint64_t bytes) override {
    write_async(to, from, bytes);
    check(cudaStreamSynchronize(side_stream_), "reading device memory");
  }

  std::unique_ptr<Event> make_event() override { return std::make_unique<CudaEvent>(ordinal_); }
  void mark_writes(Event& event) noexcept override { event.mark(side_stream_); }

  std::string pointer_error(const void* pointer) override {
    CUmemorytype type{};
    int ordinal = -1;
    void* values[] = {&type, &ordinal};
    CUpointer_attribute names[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    const CUresult result = driver().pointer_attributes(2, names, values, reinterpret_cast<CUdeviceptr>(pointer));
    if (result != CUDA_SUCCESS || type != CU_MEMORYTYPE_DEVICE)
      return "is a host pointer; pass memory of device " + std::to_string(ordinal_);
    if (ordinal != ordinal_)
      return "lies on device " + std::to_string(ordinal) + "; pass memory of device " + std::to_string(ordinal_);
    return {};
  }

  bool check_stream(StreamHandle stream) override {
    int ordinal = ordinal_;
    cudaStreamCaptureStatus capturing{};
    if (!stream) return false;
    Current current(ordinal_);
    check(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream), &capturing), "asking a stream whether it captures");
    if (capturing != cudaStreamCaptureStatusNone) return true;  // its device cannot be queried
    check(cudaStreamGetDevice(static_cast<cudaStream_t>(stream), &ordinal), "asking a stream for its device");
    if (ordinal != ordinal_)
      throw UsageError("stream belongs to device " + std::to_string(ordinal) + "; the group is on device " +
                       std::to_string(ordinal_));
    return false;
  }

  void wait_for(StreamHandle stream) override {
    check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)), "waiting for a stream");
  }

  int make_current() override {
    int before = 0;
    cudaGetDevice(&before);
    if (before != ordinal_) check(cudaSetDevice(ordinal_), "cudaSetDevice");
    return before;
  }
  void restore_device(int before) override {
    if (before != ordinal_) cudaSetDevice(before);
  }

 private:
  static DeviceId id_of(int ordinal) {
    CUdevice device = 0;
    CUuuid uuid{};
    DeviceId id{};
    check(driver().device_get(&device, ordinal), "cuDeviceGet");
    check(driver().device_uuid(&uuid, device), "cuDeviceGetUuid");
    static_assert(sizeof uuid == sizeof id);
    std::memcpy(id.data(), &uuid, sizeof id);
    return id;
  }

  int ordinal_;
  DeviceId id_;
  ShareOffer offer_;
  int num_sms_ = 0;
  cudaStream_t side_stream_ = nullptr;
};

}  // namespace

int num_devices(const char** note) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  *note = "";
  if (error == cudaSuccess && count > 0) return count;
  (void)cudaGetLastError();
  *note = error == cudaSuccess ? "no device" : cudaGetErrorString(error);
  return 0;
}

std::shared_ptr<Device> open_device(int ordinal) {
  const char* note = nullptr;
  const int count = num_devices(&note);
  if (count == 0) throw TopologyError(std::string("backend cuda: ") + note + "; choose cpu");
  if (ordinal < 0) check(cudaGetDevice(&ordinal), "cudaGetDevice");
  if (ordinal >= count)
    throw TopologyError("backend cuda: device " + std::to_string(ordinal) + "; there are " + std::to_string(count) +
                        " (0 to " + std::to_string(count - 1) + "), as CUDA_VISIBLE_DEVICES numbers them");
  return std::make_shared<CudaDevice>(ordinal);
}

}  // namespace crossdock::platform::cuda
