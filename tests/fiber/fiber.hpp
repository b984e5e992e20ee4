// SPDX-License-Identifier: Apache-2.0
// A fiber: a stack of its own, and the switch between stacks of one OS thread. Every switch is annotated for sanitizers. For
// ThreadSanitizer a switch orders no memory, so only operations of the program under test order its fibers. The code is our
// own because Boost.Context (1.74) has hooks for AddressSanitizer only, and none for ThreadSanitizer.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "platform/cpu/sanitizers.hpp"

// For functions that stand for hardware: ThreadSanitizer must not count their accesses as those of the program under test.
#if XD_TSAN
#define XD_NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#else
#define XD_NO_TSAN
#endif

#if !defined(__x86_64__) && !defined(XD_FIBER_UCONTEXT)
#define XD_FIBER_UCONTEXT 1
#endif
#ifdef XD_FIBER_UCONTEXT
#include <ucontext.h>
#endif

namespace crossdock::testing {

/// State of a stack that is not running: what the processor and the sanitizers need to resume it.
struct FiberContext {
#ifdef XD_FIBER_UCONTEXT
  ucontext_t registers;
#else
  void* stack_pointer = nullptr;
#endif
  void* stack = nullptr;  // lowest address; ASan fills it in for the stack of the OS thread
  std::size_t stack_bytes = 0;
  void* tsan = nullptr;
  void* fake_stack = nullptr;  // ASan
};

/// Suspends `from` and resumes `to`; returns at the next switch to `from`. `from_ends`: there will be no such switch.
void switch_fiber(FiberContext& from, FiberContext& to, bool from_ends = false);

/// Under ThreadSanitizer: a release to `edge` of all accesses that `abandoned` has made so far.
void release_for(const FiberContext& abandoned, void* edge);

/// A fiber that runs one job after another, so that its stack and sanitizer state are made once.
class Fiber {
 public:
  /// Runs on the fiber. Returns the context to resume when the job is done.
  using Job = FiberContext& (*)(void* argument, int idx);

  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Sets the job that the next switch to this idle fiber starts.
  void set_job(Job job, void* argument, int idx) {
    job_ = job;
    argument_ = argument;
    idx_ = idx;
  }
  FiberContext& context() { return context_; }
  /// True from the first switch into a job until the job has returned.
  bool busy() const { return busy_; }

 private:
  [[noreturn]] static void XD_NO_TSAN serve(Fiber* self);
  static void enter_ucontext(unsigned high, unsigned low);

  FiberContext context_;
  FiberContext* ender_ = nullptr;
  std::byte* mapping_ = nullptr;
  std::size_t mapping_bytes_ = 0;
  Job job_ = nullptr;
  void* argument_ = nullptr;
  int idx_ = 0;
  bool busy_ = false;
};

/// Idle fibers of one OS thread.
class FiberPool {
 public:
  static FiberPool& of_this_thread();
  std::unique_ptr<Fiber> take();
  void give(std::unique_ptr<Fiber> fiber);  ///< keeps an idle fiber; destroys a busy one, whose job never returned
  void clear() { idle_.clear(); }

 private:
  std::vector<std::unique_ptr<Fiber>> idle_;
};

}  // namespace crossdock::testing
