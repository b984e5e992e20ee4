// SPDX-License-Identifier: Apache-2.0
// The CPU as a machine of tools, and the choice between machines.
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <thread>

#include "command/failures.hpp"
#include "command/names.hpp"
#include "crossdock/cpu_stream.hpp"
#include "crossdock/crossdock.hpp"
#include "machine/machine.hpp"
#include "machine/pages.hpp"
#include "machine/times.hpp"

namespace crossdock::tools {
namespace {

class CpuQueue : public Queue {
 public:
  StreamHandle handle() override { return stream_.handle(); }
  void synchronize() override { stream_.synchronize(); }
  void begin_capture() override { stream_.begin_capture(); }
  void end_capture() override { graph_ = stream_.end_capture(); }
  void replay() override { stream_.replay(graph_); }
  void mark(int idx) override {
    while (marks_.size() <= static_cast<std::size_t>(idx)) marks_.emplace_back();
    stream_.enqueue([mark = &marks_[static_cast<std::size_t>(idx)]] { *mark = SteadyClock::now(); });
  }
  double us_between(int first, int last) override { return us_of(marks_.at(last) - marks_.at(first)); }

 private:
  CpuStream stream_;
  CpuGraph graph_;
  std::deque<SteadyClock::time_point> marks_;  // which stay where they are when there are more
};

class CpuMachine : public Machine {
 public:
  explicit CpuMachine(bool is_far) : is_far_(is_far) {}
  BackendKind kind() const override { return BackendKind::cpu; }
  bool is_host() const override { return !is_far_; }
  std::string host() const override {
    GroupOptions options;
    options.backend = BackendKind::cpu;
    options.tuning_file = "none";
    return fmt::format("{}x {}", std::thread::hardware_concurrency(),
                       Group::join(ThreadTeam(1), 0, options).device_model());
  }
  std::string driver() const override {
    utsname system{};
    ::uname(&system);
    const std::string_view release = system.release;
    return fmt::format("{} {}", system.sysname, release.substr(0, release.find('-')));
  }
  int device_of(int) const override { return -1; }
  void use(int) override {}
  DeviceBytes allocate(std::size_t bytes) override {
    const auto pages = std::make_shared<Pages>(std::max<std::size_t>(bytes, 1));
    return DeviceBytes(pages, pages->data());
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (bytes) std::memcpy(to, from, bytes);
  }
  void fill(void* to, std::uint8_t value, std::size_t bytes) override {
    if (bytes) std::memset(to, value, bytes);
  }
  std::unique_ptr<Queue> make_queue() override { return std::make_unique<CpuQueue>(); }
  std::vector<Limit> limits(int) override { return {}; }
  double link_gbps(int) override { return 0; }
  double pattern_gbps(const Traffic&) override { return 0; }
  double signal_us(int) override { return 0; }

 private:
  bool is_far_;
};

std::atomic<bool> cpu_is_far{false};

/// What `ask` returns in a forked process, 0 to 255; 0 if that process dies.
int in_a_process_of_its_own(const std::function<int()>& ask) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(ask());
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

std::map<BackendKind, OpenMachine>& registry() {  // made on first use: machines register before main
  static std::map<BackendKind, OpenMachine> machines;
  return machines;
}

std::shared_ptr<Machine> open_cpu(const std::vector<int>&) { return std::make_shared<CpuMachine>(cpu_is_far); }
const MachineKind kCpu(BackendKind::cpu, open_cpu);

/// The first GPUs in the order of the list that are there and that these tools have a machine for; else the CPU.
BackendKind best_backend() {
  BackendInfo all[std::size(kBackendNames)];
  const int count = list_backends(all, static_cast<int>(std::size(all)));
  for (int i = 0; i < count; ++i)
    if (all[i].kind != BackendKind::cpu && all[i].num_devices > 0 && registry().contains(all[i].kind))
      return all[i].kind;
  return BackendKind::cpu;
}

}  // namespace

MachineKind::MachineKind(BackendKind kind, OpenMachine open) { registry().emplace(kind, open); }

std::shared_ptr<Machine> open_machine(BackendKind kind, const std::vector<int>& devices) {
  if (const auto found = registry().find(kind); found != registry().end()) return found->second(devices);
  throw BadInput("backend {}: this build has no tools for it; choose cpu", name_of(kind));
}

void treat_cpu_as_far(bool far) { cpu_is_far = far; }

BackendKind backend_of_verbs() {
  const char* name = std::getenv("CROSSDOCK_BACKEND");
  if (name && *name && name != name_of(BackendKind::automatic)) {
    if (const auto kind = named<BackendKind>(kBackendNames, name)) return *kind;
    throw BadInput("CROSSDOCK_BACKEND = `{}`; must be one of {}", name, fmt::join(kBackendNames, " "));
  }
  const int best = in_a_process_of_its_own([] { return static_cast<int>(best_backend()); });
  return best > 0 ? static_cast<BackendKind>(best) : BackendKind::cpu;
}

GroupOptions group_options(const Machine& machine, int rank) {
  GroupOptions options;
  options.backend = machine.kind();
  options.device = machine.device_of(rank);
  return options;
}

}  // namespace crossdock::tools
