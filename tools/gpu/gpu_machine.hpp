// SPDX-License-Identifier: Apache-2.0
// GPUs of one vendor as a machine of tools. Copies go on the device's side stream, so that they never wait for kernels of ranks.
#pragma once

#include <algorithm>
#include <map>

#include "command/failures.hpp"
#include "gpu/limits.hpp"
#include "machine/machine.hpp"

namespace crossdock::tools::gpu {

template <class R>
class GpuMachine : public Machine {
 public:
  explicit GpuMachine(const std::vector<int>& devices) : devices_(devices) {
    const auto refuse = [](const std::string& why) {
      throw BadInput("backend {}: {}; choose cpu", name_of(R::kKind), why);
    };
    if (const std::string problem = R::problem(); !problem.empty()) refuse(problem);
    int count = 0;
    const auto error = R::GetDeviceCount(&count);
    if (error != typename R::Error{}) refuse(R::GetErrorString(error));
    if (count == 0) refuse("there is no device");
    for (const int device : devices_)
      if (device < 0 || device >= count)
        throw BadInput("--devices: there is no device {}; there are 0 to {}, as {} numbers them", device, count - 1,
                       R::kVisible);
    for (int device = 0; devices.empty() && device < count; ++device) devices_.push_back(device);
  }

  BackendKind kind() const override { return R::kKind; }
  std::string host() const override { return fmt::format("{}x {}", devices_.size(), R::name_of(devices_[0])); }
  std::string driver() const override { return R::driver(); }
  int device_of(int rank) const override { return devices_[static_cast<std::size_t>(rank) % devices_.size()]; }
  void use(int rank) override {
    check<R>(R::SetDevice(device_of(rank)), "choosing a device");
    (void)side_stream<R>();  // before any rank's kernel runs
  }

  DeviceBytes allocate(std::size_t bytes) override {
    const auto stream = side_stream<R>();
    void* data = nullptr;
    check<R>(R::MallocAsync(&data, std::max<std::size_t>(bytes, 16), stream),
             ("allocating " + std::to_string(bytes) + " bytes on the device").c_str());
    check<R>(R::StreamSynchronize(stream), "allocating");
    return DeviceBytes(static_cast<std::byte*>(data), [stream](std::byte* p) { (void)R::FreeAsync(p, stream); });
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (!bytes) return;
    check<R>(R::MemcpyAsync(to, from, bytes, R::kCopy, side_stream<R>()), "copying");
    check<R>(R::StreamSynchronize(side_stream<R>()), "copying");
  }
  void fill(void* to, std::uint8_t value, std::size_t bytes) override {
    if (!bytes) return;
    check<R>(R::MemsetAsync(to, value, bytes, side_stream<R>()), "filling");
    check<R>(R::StreamSynchronize(side_stream<R>()), "filling");
  }
  std::unique_ptr<Queue> make_queue() override { return std::make_unique<GpuQueue<R>>(); }
  std::vector<Limit> limits(int num_ranks) override { return measure_limits<R>(devices_of(num_ranks)); }
  double link_gbps(int num_ranks) override {
    double& best = links_[num_ranks];
    if (best == 0) best = best_push<R>(devices_of(num_ranks));
    return best;
  }
  double pattern_gbps(const Traffic& bytes) override { return pattern_push<R>(devices_of(bytes.num_ranks()), bytes); }
  double signal_us(int num_ranks) override { return gpu::signal_us<R>(devices_of(num_ranks)); }

 private:
  std::vector<int> devices_of(int num_ranks) const {
    std::vector<int> some;
    for (int r = 0; r < num_ranks && r < static_cast<int>(devices_.size()); ++r) some.push_back(device_of(r));
    return some;
  }
  std::vector<int> devices_;
  std::map<int, double> links_;
};

template <class R>
std::shared_ptr<Machine> open(const std::vector<int>& devices) {
  return std::make_shared<GpuMachine<R>>(devices);
}

}  // namespace crossdock::tools::gpu
