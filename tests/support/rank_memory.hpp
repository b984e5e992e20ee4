// SPDX-License-Identifier: Apache-2.0
// Memory that kernels of a rank can use, and how a test reaches it, on any machine (machine.hpp): on the CPU these are
// plain pointers.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "crossdock/types.hpp"

namespace crossdock::testing {

/// The machine that tests run on: the CPU, unless CROSSDOCK_BACKEND names another that this build holds.
BackendKind backend_of_tests();
/// Device of a rank, round robin over what is there, or over the list in CROSSDOCK_TEST_DEVICES ("3,1"); -1 on the CPU.
int device_of(BackendKind backend, int rank);
/// Makes it the calling thread's current device.
void use_device(BackendKind backend, int rank);

/// Which it is; -1 on the CPU.
int current_device(BackendKind backend);
/// What the driver remembers of a call that failed; empty: nothing.
std::string last_error(BackendKind backend);

/// Bytes that are free on the calling thread's device; 0 on the CPU, where processes have other means to count.
std::uint64_t free_device_bytes(BackendKind backend);

/// Device memory of exactly `bytes` bytes (so that ASan sees what lies beyond), with a guard behind it on request.
class Buffer {
 public:
  Buffer() = default;
  Buffer(BackendKind backend, std::size_t bytes, std::uint8_t fill = 0xff, bool guarded = false);

  void* data() const { return data_.get(); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data());
  }
  std::size_t bytes() const { return bytes_; }
  /// Whether nobody has written behind the end of a guarded buffer.
  bool guard_is_whole() const;

 private:
  BackendKind backend_ = BackendKind::cpu;
  std::size_t bytes_ = 0;
  std::shared_ptr<void> data_;
};

/// Copies from the host, ordered with what else runs on `stream`; `from` must live until it is done.
void copy_in(BackendKind backend, void* to, const void* from, std::size_t bytes, StreamHandle stream = nullptr);
/// Copies to the host; all work that writes there must be done.
void copy_out(BackendKind backend, void* to, const void* from, std::size_t bytes);
/// Waits for all work of a stream; nullptr: there is none to wait for on the CPU.
void synchronize(BackendKind backend, StreamHandle stream);

}  // namespace crossdock::testing
