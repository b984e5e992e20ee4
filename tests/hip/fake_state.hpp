// SPDX-License-Identifier: Apache-2.0
// What the parts of the fake HIP runtime share: memory, streams, and what it pretends.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "crossdock/cpu_stream.hpp"
#include "platform/hip/driver.hpp"
#include "platform/machine.hpp"

#define XD_EXPORT extern "C" __attribute__((visibility("default")))

namespace crossdock::testing::fake {

/// Runs the work of all its streams in the order in which it was put there, whatever waits for what.
class HardwareQueue {
 public:
  std::uint64_t take_buffer_set() { return ++last_; }
  void wait_for_turn(std::uint64_t place) {
    std::unique_lock lock(mutex_);
    moved_.wait(lock, [&] { return done_ + 1 == place; });
  }
  void leave() {
    {
      const std::lock_guard lock(mutex_);
      ++done_;
    }
    moved_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable moved_;
  std::atomic<std::uint64_t> last_{0};
  std::uint64_t done_ = 0;
};

}  // namespace crossdock::testing::fake

struct ihipStream_t {
  std::shared_ptr<crossdock::testing::fake::HardwareQueue> hardware;  // null: of its own
  int device;
  bool is_the_librarys;
  std::mutex order;  // of place and work, by threads that share this stream
  crossdock::CpuStream queue;

  /// Runs what `work(queue)` enqueues behind all that the hardware queue holds.
  template <class Work>
  void put(Work work) {
    if (!hardware || queue.capturing()) return work(queue);
    const std::lock_guard lock(order);
    const std::uint64_t place = hardware->take_buffer_set();
    queue.enqueue([shared = hardware, place] { shared->wait_for_turn(place); });
    work(queue);
    queue.enqueue([shared = hardware] { shared->leave(); });
  }
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
    stream->put([&](CpuStream& queue) { queue.enqueue(call); });
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
