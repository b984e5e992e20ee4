// SPDX-License-Identifier: Apache-2.0
// What the rest of the tests needs of a machine: one table each, in cpu.cpp, cuda.cpp and hip.cpp. Which of them are built
// stands in tested_machines.def, which CMake writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "support/device_steps.hpp"
#include "support/stream.hpp"

namespace crossdock::testing {

/// What a machine's stream can do.
struct Stream::State {
  virtual ~State() = default;
  virtual StreamHandle handle() = 0;
  virtual void enqueue(std::function<void()> call) = 0;
  virtual void synchronize() = 0;
  virtual void begin_capture() = 0;
  virtual Graph end_capture() = 0;
  virtual void replay(const Graph& graph) = 0;
};

struct Machine {
  int (*num_devices)();
  int (*current_device)();
  void (*use)(int device);
  std::uint64_t (*free_bytes)();
  std::string (*last_error)();  // that the driver remembers; empty: none

  std::shared_ptr<void> (*allocate)(std::size_t bytes);
  void (*fill)(void* to, std::uint8_t value, std::size_t bytes);
  void (*copy)(void* to, const void* from, std::size_t bytes);  // done when it returns
  void (*enqueue_copy)(void* to, const void* from, std::size_t bytes, StreamHandle stream);
  void (*synchronize)(StreamHandle stream);

  /// The calling thread's own on its current device: where calls without a stream run.
  StreamHandle (*own_stream)();
  std::unique_ptr<Stream::State> (*make_stream)();
  void (*step)(StepKind kind, StreamHandle stream, const Step& step);
  /// Makes a word 1 that steps of streams of `device` wait for (`allocate` has made it there): past all streams that run
  /// anything else, and done when it returns.
  void (*post)(std::uint32_t* word, int device);

  const char* visible;  // the variable of the environment that lists its devices
};

/// std::logic_error if this build has none.
const Machine& machine_of(BackendKind backend);

}  // namespace crossdock::testing
