// SPDX-License-Identifier: Apache-2.0
// One launch of a kernel body on fibers: every thread of every block is a fiber of the calling OS thread, all of them
// alive at once, so that blocks may wait for one another. The scheduler plays the hardware; only barriers order memory.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "platform/cpu/fiber.hpp"
#include "platform/machine.hpp"

namespace crossdock::platform::cpu {

struct FiberOptions {
  /// 0: threads take turns in order. Else: any order, and threads are also interrupted at operations on words.
  std::uint64_t seed = 0;
};

/// Calls in which all threads of a warp or of a block meet.
enum class FiberCall : std::uint8_t { none, sync_block, sync_block_or, sync_warp, max_across, ballot };

class FiberLaunch {
 public:
  /// UsageError if the threads are not a multiple of `width`, or the launch is empty.
  FiberLaunch(const Geometry& geometry, int width, const FiberOptions& options);
  ~FiberLaunch();
  FiberLaunch(const FiberLaunch&) = delete;
  FiberLaunch& operator=(const FiberLaunch&) = delete;

  using Entry = void (*)(void* argument, int fiber);  ///< fiber = block * num_threads + thread

  /// Runs entry(argument, fiber) for every fiber. Rethrows the first exception of a fiber and abandons the others.
  /// std::logic_error if the fibers left all wait for one that cannot come: a barrier in divergent code.
  void run(Entry entry, void* argument);

  /// What a running fiber may do.
  union Value {
    std::uint64_t bits;
    float number;
    std::uint32_t flag;
  };
  void XD_NO_TSAN pause();
  void XD_NO_TSAN interrupt() {
    if (random_ != 0) maybe_yield();
  }
  /// Returns when all threads of the warp or block of `fiber` have called it. `span`: neighbouring lanes that join.
  Value XD_NO_TSAN meet(FiberCall call, int fiber, Value mine = {}, int span = 0);

  const Geometry& geometry() const { return geometry_; }

 private:
  /// Where the threads of one block or one warp meet, round after round.
  struct Meeting {
    int first_fiber = 0, num_fibers = 0, arrived = 0, span = 0;
    FiberCall call = FiberCall::none;  // of the round that is open
    // Two orders in turn: a thread already in the next round must not be seen by one that still leaves this round.
    int round = 0;
    char order[2] = {};
  };
  static int num_fibers_of(const Geometry& geometry, int width);
  static FiberContext& XD_NO_TSAN run_one(void* self, int fiber);
  void XD_NO_TSAN call_entry(int fiber);
  void XD_NO_TSAN maybe_yield();
  void XD_NO_TSAN finish(Meeting& meeting);
  void XD_NO_TSAN make_ready(int fiber);
  int XD_NO_TSAN take_ready();  // -1: none
  void XD_NO_TSAN leave_to_next();
  std::uint64_t XD_NO_TSAN draw();
  std::string describe_stuck() const;

  Geometry geometry_;
  int width_, num_fibers_;
  std::uint64_t random_;
  Entry entry_ = nullptr;
  void* argument_ = nullptr;

  /// An array whose accesses ThreadSanitizer does not see, unlike those of the standard containers.
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
  Array<Value> mine_, result_;  // one per fiber
  Array<Meeting*> waits_in_;    // per fiber; null: runs, is ready, or has ended
  Array<bool> ended_;
  Array<int> ready_;  // ring
  int ready_first_ = 0, num_ready_ = 0, num_ended_ = 0, current_ = -1, pauses_ = 0;
  std::exception_ptr failure_;
  bool failed_ = false;
  const char* misuse_ = nullptr;  // calls that do not belong together met
  FiberContext caller_;
  char began_ = 0, over_ = 0;  // their addresses order the caller and its fibers
};

}  // namespace crossdock::platform::cpu
