// SPDX-License-Identifier: Apache-2.0
// What tools need of the machine that their ranks run on, beside the library: memory, copies, queues with marks in time,
// graphs. One per backend; verbs know only this.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "crossdock/group.hpp"
#include "machine/traffic.hpp"

namespace crossdock::tools {

/// Calls of one rank in order: on a GPU a stream, on the CPU a thread. It keeps one recording.
class Queue {
 public:
  virtual ~Queue() = default;
  virtual StreamHandle handle() = 0;
  virtual void synchronize() = 0;
  virtual void begin_capture() = 0;
  virtual void end_capture() = 0;
  virtual void replay() = 0;
  /// Takes mark number `idx` in time when the queue gets there.
  virtual void mark(int idx) = 0;
  /// Both marks must have been reached.
  virtual double us_between(int first, int last) = 0;
};

/// One line of `crossdock bench --limits`: a rate, or a latency.
struct Limit {
  std::string key, what;                     // for machines, for people
  int ranks = 0, blocks = 0, row_bytes = 0;  // 0: it has none
  double gbps = 0;
  double us = 0;  // 0: it is a rate
};
/// The constants of the floor us + bytes / rate: a kernel of a graph in which all ranks meet once, and the best push of rows of
/// so many bytes to all others in turn.
inline constexpr std::string_view kMeetingKernel = "barrier_kernel", kPush = "push_";
inline constexpr int kFloorRowBytes = 7168;

using DeviceBytes = std::shared_ptr<std::byte>;

class Machine {
 public:
  virtual ~Machine() = default;
  virtual BackendKind kind() const = 0;
  /// Number and model of its processors, never a machine's name.
  virtual std::string host() const = 0;
  virtual std::string driver() const = 0;
  /// Ordinal of the device of a rank; -1 on the CPU.
  virtual int device_of(int rank) const = 0;
  /// Makes the device of a rank the calling thread's. All that follows is about that device.
  virtual void use(int rank) = 0;

  virtual DeviceBytes allocate(std::size_t bytes) = 0;
  /// Between any two memories; done when it returns.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  virtual void fill(void* to, std::uint8_t value, std::size_t bytes) = 0;
  virtual std::unique_ptr<Queue> make_queue() = 0;
  /// What the links between `num_ranks` devices can do.
  virtual std::vector<Limit> limits(int num_ranks) = 0;
  /// The largest rate at which one rank of so many can send to all others, GB/s; measured once.
  virtual double link_gbps(int num_ranks) = 0;
  /// The rate of a bare copy in which every rank sends every other one its share of `bytes`, at the busiest rank; 0 where that is
  /// not measured.
  virtual double pattern_gbps(const Traffic& bytes) = 0;
  /// A kernel that does nothing but tell all others and hear from them, µs; 0 where that is not measured.
  virtual double signal_us(int num_ranks) = 0;

  /// The host reads and writes this memory itself.
  virtual bool is_host() const { return false; }
};

/// The machine of a backend in this build; BadInput if there is none. `devices`: ordinals of ranks 0, 1, ... in turn;
/// empty: all devices.
std::shared_ptr<Machine> open_machine(BackendKind kind, const std::vector<int>& devices = {});

using OpenMachine = std::shared_ptr<Machine> (*)(const std::vector<int>& devices);

/// How a machine joins the tools: `static const MachineKind machine(BackendKind::cuda, ...);` in a file of its own is all that
/// open_machine needs to know. Builds without a vendor's compiler leave its folder out, and nothing else changes.
struct MachineKind {
  MachineKind(BackendKind kind, OpenMachine open);
};

/// For tests: from now on the CPU's memory is reached as a GPU's is, by copies only.
void treat_cpu_as_far(bool far);

/// Where verbs run their ranks: what CROSSDOCK_BACKEND names, else GPUs if there are any, else the CPU. The driver is
/// asked in a process of its own, so that this one can still fork ranks.
BackendKind backend_of_verbs();

GroupOptions group_options(const Machine& machine, int rank);

}  // namespace crossdock::tools
