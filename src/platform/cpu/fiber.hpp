// SPDX-License-Identifier: Apache-2.0
// A fiber: a stack of its own and a switch between stacks of one OS thread. Sanitizers are told of every switch; a switch
// orders nothing for ThreadSanitizer, so only what the program under test does orders its fibers.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "platform/cpu/sanitizers.hpp"

#if !defined(__x86_64__) && !defined(XD_FIBER_UCONTEXT)
#define XD_FIBER_UCONTEXT 1
#endif
#ifdef XD_FIBER_UCONTEXT
#include <ucontext.h>
#endif

namespace crossdock::platform::cpu {

/// What a sanitizer and the processor need to come back to a stack.
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

/// Leaves `from`, whose next statement runs when somebody switches to it. `from_ends`: nobody ever will.
void switch_fiber(FiberContext& from, FiberContext& to, bool from_ends = false);

/// Lets ThreadSanitizer see what `abandoned` has done so far as released to `edge`.
void release_for(const FiberContext& abandoned, void* edge);

/// A fiber that serves one job after the other, so that stacks and sanitizer state are made once.
class Fiber {
 public:
  /// Runs on the fiber; tells where to go when it is done.
  using Job = FiberContext& (*)(void* argument, int idx);

  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Sets what runs at the next switch to an idle fiber.
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
  void give(std::unique_ptr<Fiber> fiber);  ///< a busy fiber is destroyed as it stands
  void clear() { idle_.clear(); }

 private:
  std::vector<std::unique_ptr<Fiber>> idle_;
};

}  // namespace crossdock::platform::cpu
