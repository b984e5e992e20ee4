// SPDX-License-Identifier: Apache-2.0
// What the parts of the fake HIP runtime share: memory, streams, and what it pretends.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "crossdock/cpu_stream.hpp"
#include "platform/hip/driver.hpp"
#include "platform/machine.hpp"

#define XD_EXPORT extern "C" __attribute__((visibility("default")))

struct ihipStream_t {
  crossdock::CpuStream queue;
  int device;
  bool is_the_librarys;  // the library's have a priority
};

namespace crossdock::testing::fake {

enum class Kind { device, host, imported, reserved };
struct Memory {
  Kind kind;
  std::size_t bytes;
  int device;
  int fd;
  std::set<int> users;  // devices that have been given access
};

inline std::recursive_mutex mutex;
inline std::map<char*, Memory> memories;     // by first byte
inline std::set<std::pair<int, int>> peers;  // (from, to) that were enabled
inline std::set<hipStream_t> streams;
inline thread_local int current;
inline thread_local hipError_t last = hipSuccess;

inline hipError_t fail(hipError_t error) { return last = error; }

/// Number behind `name=` in FAKE_HIP.
long option(const std::string& name, long standard);

/// What holds an address.
std::map<char*, Memory>::iterator find(const void* pointer);
hipError_t make_memory(void** out, std::size_t bytes, Kind kind, bool shareable = true);
hipError_t drop_memory(void* pointer, Kind kind);

/// Runs on the stream's queue, or at once on the null stream.
template <class Call>
hipError_t enqueue(hipStream_t stream, Call call) {
  if (stream)
    stream->queue.enqueue(call);
  else
    call();
  return hipSuccess;
}

/// A kernel as the fake runs it.
struct Kernel {
  std::function<void(platform::Geometry, const void* arguments)> run;
  std::size_t argument_bytes;
  int device;
  int most_threads;  // of a block; 0: what the option says
};
/// Of one device, by name.
std::map<std::string, Kernel> all_kernels(int device);

}  // namespace crossdock::testing::fake
