// SPDX-License-Identifier: Apache-2.0
#include "support/rank_memory.hpp"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "support/machine.hpp"

namespace crossdock::testing {

#define XD_MACHINE(name) const Machine& name##_machine();
#include "tested_machines.def"
#undef XD_MACHINE

const Machine& machine_of(BackendKind backend) {
#define XD_MACHINE(name) \
  if (backend == BackendKind::name) return name##_machine();
#include "tested_machines.def"
#undef XD_MACHINE
  throw std::logic_error("tests: no memory of backend " + std::string(name_of(backend)) + " in this build");
}

namespace {

constexpr std::size_t kGuardBytes = 128;
constexpr std::uint8_t kGuard = 0xc5;

/// Those that CROSSDOCK_TEST_DEVICES lists, or all.
std::vector<int> devices_of_tests(int num_devices) {
  std::vector<int> devices;
  const char* listed = std::getenv("CROSSDOCK_TEST_DEVICES");
  std::istringstream list(listed ? listed : "");
  for (std::string word; std::getline(list, word, ',');) {
    char* end = nullptr;
    const long device = std::strtol(word.c_str(), &end, 10);
    if (word.empty() || *end || device < 0 || device >= num_devices)
      throw std::invalid_argument("CROSSDOCK_TEST_DEVICES = " + std::string(listed) + ": `" + word +
                                  "` is none of the devices 0 to " + std::to_string(num_devices - 1));
    devices.push_back(static_cast<int>(device));
  }
  for (int device = 0; device < num_devices && !listed; ++device) devices.push_back(device);
  if (devices.empty())
    throw std::invalid_argument("tests: no device; CROSSDOCK_TEST_DEVICES lists none, or none is there");
  return devices;
}

}  // namespace

BackendKind backend_of_tests() {
  const char* name = std::getenv("CROSSDOCK_BACKEND");
  for (const BackendKind kind : {BackendKind::cuda, BackendKind::hip})
    if (name && name_of(kind) == name) return kind;
  return BackendKind::cpu;
}

int device_of(BackendKind backend, int rank) {
  if (backend == BackendKind::cpu) return -1;
  const std::vector<int> devices = devices_of_tests(machine_of(backend).num_devices());
  return devices[static_cast<std::size_t>(rank) % devices.size()];
}

void use_device(BackendKind backend, int rank) { machine_of(backend).use(device_of(backend, rank)); }
int current_device(BackendKind backend) { return machine_of(backend).current_device(); }
std::string last_error(BackendKind backend) { return machine_of(backend).last_error(); }
std::uint64_t free_device_bytes(BackendKind backend) { return machine_of(backend).free_bytes(); }

Buffer::Buffer(BackendKind backend, std::size_t bytes, std::uint8_t fill, bool guarded)
    : backend_(backend), bytes_(bytes) {
  data_ = machine_of(backend).allocate(std::max<std::size_t>(1, bytes + (guarded ? kGuardBytes : 0)));
  if (bytes > 0) machine_of(backend).fill(data_.get(), fill, bytes);
  if (guarded) machine_of(backend).fill(static_cast<std::uint8_t*>(data_.get()) + bytes, kGuard, kGuardBytes);
}

bool Buffer::guard_is_whole() const {
  std::vector<std::uint8_t> guard(kGuardBytes);
  copy_out(backend_, guard.data(), as<std::uint8_t>() + bytes_, kGuardBytes);
  return std::all_of(guard.begin(), guard.end(), [](std::uint8_t b) { return b == kGuard; });
}

void copy_in(BackendKind backend, void* to, const void* from, std::size_t bytes, StreamHandle stream) {
  if (bytes > 0) machine_of(backend).enqueue_copy(to, from, bytes, stream);
}

void copy_out(BackendKind backend, void* to, const void* from, std::size_t bytes) {
  if (bytes > 0) machine_of(backend).copy(to, from, bytes);
}

void synchronize(BackendKind backend, StreamHandle stream) { machine_of(backend).synchronize(stream); }

}  // namespace crossdock::testing
