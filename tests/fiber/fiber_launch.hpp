// SPDX-License-Identifier: Apache-2.0
// One launch of a kernel body on fibers: each thread of each block is a fiber of the calling OS thread. All blocks are alive
// at once, or as many as find a multiprocessor. The scheduler stands for the hardware; only barriers order memory.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "fiber/fiber.hpp"
#include "platform/machine.hpp"

namespace crossdock::testing {

/// The multiprocessors of a device that launches of several OS threads share. A block holds one from its beginning to its end,
/// also while it waits.
class Multiprocessors {
 public:
  explicit Multiprocessors(int count) : free_(count) {}
  /// False if none was free for `patience`.
  bool take(std::chrono::milliseconds patience);
  bool try_take() { return take(std::chrono::milliseconds(0)); }
  void give();

 private:
  std::mutex mutex_;
  std::condition_variable given_;
  int free_;
};

struct FiberOptions {
  /// 0: threads take turns in order. Otherwise the seed of a random order, in which a thread may also be interrupted before
  /// an operation on a word.
  std::uint64_t seed = 0;
  /// Blocks begin as they find a multiprocessor here, in order. Null: all at once.
  Multiprocessors* multiprocessors = nullptr;
};

/// Collective calls: all threads of a block (the first two) or of a warp make them together.
enum class FiberCall : std::uint8_t { none, sync_block, sync_block_or, sync_warp, max_across, ballot };

class FiberLaunch {
 public:
  /// UsageError if the threads are not a multiple of `width`, or the launch is empty.
  FiberLaunch(const platform::Geometry& geometry, int width, const FiberOptions& options);
  ~FiberLaunch();
  FiberLaunch(const FiberLaunch&) = delete;
  FiberLaunch& operator=(const FiberLaunch&) = delete;

  using Entry = void (*)(void* argument, int fiber);  ///< fiber = block * num_threads + thread

  /// Runs entry(argument, fiber) for every fiber. Rethrows the first exception of a fiber; the other fibers then stop where
  /// they are. std::logic_error if every fiber left waits in a collective call that cannot complete: a barrier in divergent
  /// code.
  void run(Entry entry, void* argument);

  /// What one thread passes to a collective call, and what the call returns.
  union Value {
    std::uint64_t bits;
    float number;
    std::uint32_t flag;
  };
  /// Called by a running fiber that polls: lets the other fibers run, and other OS threads once all of them have run.
  void XD_NO_TSAN pause();
  /// Called by a running fiber before an operation on a word: with a seed, another fiber may run first.
  void XD_NO_TSAN interrupt() {
    if (random_ != 0) maybe_yield();
  }
  /// Returns when all threads of the warp or block of `fiber` have called it. `span`: neighbouring lanes that share a result
  /// of max_across.
  Value XD_NO_TSAN meet(FiberCall call, int fiber, Value mine = {}, int span = 0);

  /// A release of what the caller of run() has done before it, and of nothing that this launch has: for ThreadSanitizer the
  /// caller stores the word.
  void XD_NO_TSAN store_release_of_caller(std::uint64_t* p, std::uint64_t v);

  const platform::Geometry& geometry() const { return geometry_; }

 private:
  /// State of the collective calls of one block or one warp. Each call is a round.
  struct Meeting {
    int first_fiber = 0, num_fibers = 0, arrived = 0, span = 0;
    FiberCall call = FiberCall::none;  // of the current round
    int round = 0;
    // Addresses of the edges of even and odd rounds. With a single one, a thread that still leaves a round would acquire what
    // another thread released in the next round.
    char order[2] = {};
  };
  static int num_fibers_of(const platform::Geometry& geometry, int width);
  static FiberContext& XD_NO_TSAN run_one(void* self, int fiber);
  void XD_NO_TSAN call_entry(int fiber);
  void XD_NO_TSAN maybe_yield();
  void XD_NO_TSAN finish(Meeting& meeting);
  void XD_NO_TSAN make_ready(int fiber);
  void XD_NO_TSAN begin_block();
  void XD_NO_TSAN begin_more_blocks();
  void XD_NO_TSAN end_block();
  int XD_NO_TSAN take_ready();  // -1: none
  void XD_NO_TSAN leave_to_next();
  std::uint64_t XD_NO_TSAN draw();
  std::string describe_stuck() const;

  platform::Geometry geometry_;
  int width_, num_fibers_;
  std::uint64_t random_;
  Entry entry_ = nullptr;
  void* argument_ = nullptr;

  /// An array whose accesses are hidden from ThreadSanitizer. Those of the standard containers are not.
  template <class T>
  class Array {
   public:
    explicit Array(int size) : items_(new T[size]()) {}
    ~Array() { delete[] items_; }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    XD_NO_TSAN T& operator[](int i) const { return items_[i]; }

   private:
    T* items_;
  };
  Array<Fiber*> fibers_;
  Array<Meeting> block_meetings_, warp_meetings_;
  Multiprocessors* multiprocessors_;
  int num_begun_ = 0, num_running_ = 0;  // blocks
  Array<int> left_of_block_;             // fibers that have not ended
  Array<Value> mine_, result_;           // one per fiber
  Array<Meeting*> waits_in_;             // one per fiber; null if the fiber runs, is ready, or has ended
  Array<bool> ended_;
  Array<int> ready_;  // ring buffer of the fibers that may run next
  int ready_first_ = 0, num_ready_ = 0, num_ended_ = 0, current_ = -1, pauses_ = 0;
  std::exception_ptr failure_;
  bool failed_ = false;
  const char* misuse_ = nullptr;  // name of a collective call that some threads of a group made and others did not
  FiberContext caller_;
  char began_ = 0, over_ = 0;  // addresses of the edges from the caller to its fibers, and back
};

}  // namespace crossdock::testing
