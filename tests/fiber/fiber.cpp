// SPDX-License-Identifier: Apache-2.0
// Stacks, the switch between them (14 instructions on x86-64, ucontext elsewhere), and the calls that sanitizers need around it.
#include "fiber/fiber.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "platform/system/system_failure.hpp"

#if XD_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#if XD_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace crossdock::testing {

namespace {

// Kernel bodies need a few KiB; sanitizers multiply frames. Pages are only taken when touched.
constexpr std::size_t kStackBytes = XD_TSAN || XD_ASAN ? std::size_t{256} << 10 : std::size_t{128} << 10;

#if XD_ASAN
/// The context that the last switch left. On arrival ASan gives the bounds of its stack.
thread_local FiberContext* last_left = nullptr;
#endif

}  // namespace

#ifndef XD_FIBER_UCONTEXT
// The callee-saved registers of the System V ABI are pushed on the stack that is left, so its stack pointer is the whole context.
extern "C" void crossdock_switch_stack(void** save_stack_pointer, void* load_stack_pointer);
extern "C" void crossdock_enter_fiber();  // calls r12 with rbx
asm(R"(
.text
.p2align 4
.globl crossdock_switch_stack
.hidden crossdock_switch_stack
.type crossdock_switch_stack, @function
crossdock_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size crossdock_switch_stack, . - crossdock_switch_stack

.p2align 4
.globl crossdock_enter_fiber
.hidden crossdock_enter_fiber
.type crossdock_enter_fiber, @function
crossdock_enter_fiber:
  .cfi_startproc
  .cfi_undefined %rip
  movq %rbx, %rdi
  call *%r12
  ud2
  .cfi_endproc
.size crossdock_enter_fiber, . - crossdock_enter_fiber
)");
#endif

XD_NO_TSAN static void arrive_on(FiberContext& here) {
#if XD_ASAN
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(here.fake_stack, &bottom, &bytes);
  if (last_left != nullptr && last_left->stack == nullptr) {  // the OS thread's own stack
    last_left->stack = const_cast<void*>(bottom);
    last_left->stack_bytes = bytes;
  }
#else
  (void)here;
#endif
}

XD_NO_TSAN void switch_fiber(FiberContext& from, FiberContext& to, [[maybe_unused]] bool from_ends) {
#if XD_ASAN
  last_left = &from;
  __sanitizer_start_switch_fiber(from_ends ? nullptr : &from.fake_stack, to.stack, to.stack_bytes);
#endif
#if XD_TSAN
  if (from.tsan == nullptr) from.tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef XD_FIBER_UCONTEXT
  ::swapcontext(&from.registers, &to.registers);
#else
  crossdock_switch_stack(&from.stack_pointer, to.stack_pointer);
#endif
  arrive_on(from);
}

XD_NO_TSAN void release_for([[maybe_unused]] const FiberContext& abandoned, [[maybe_unused]] void* edge) {
#if XD_TSAN
  void* const current = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(abandoned.tsan, __tsan_switch_to_fiber_no_sync);
  __tsan_release(edge);
  __tsan_switch_to_fiber(current, __tsan_switch_to_fiber_no_sync);
#endif
}

/// First function of every fiber. It never returns: nothing switches back to it after the last switch.
void Fiber::serve(Fiber* self) {
  arrive_on(self->context_);
  while (self->job_ != nullptr) {
    self->busy_ = true;
    FiberContext& next = self->job_(self->argument_, self->idx_);
    self->busy_ = false;
    switch_fiber(self->context_, next);
  }
  switch_fiber(self->context_, *self->ender_, true);
  __builtin_unreachable();
}

void Fiber::enter_ucontext([[maybe_unused]] unsigned high, [[maybe_unused]] unsigned low) {
#ifdef XD_FIBER_UCONTEXT
  serve(reinterpret_cast<Fiber*>((static_cast<std::uintptr_t>(high) << 32) | low));
#endif
}

Fiber::Fiber() {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  mapping_bytes_ = kStackBytes + page;
  void* mapped =
      ::mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED)
    platform::system::throw_system_error("fiber: mapping a stack", errno, "use fewer threads or blocks");
  mapping_ = static_cast<std::byte*>(mapped);
  ::mprotect(mapping_, page, PROT_NONE);  // an overflow faults instead of writing elsewhere
  context_.stack = mapping_ + page;
  context_.stack_bytes = kStackBytes;
#if XD_TSAN
  context_.tsan = __tsan_create_fiber(0);
#endif
#ifdef XD_FIBER_UCONTEXT
  ::getcontext(&context_.registers);
  context_.registers.uc_stack.ss_sp = context_.stack;
  context_.registers.uc_stack.ss_size = context_.stack_bytes;
  context_.registers.uc_link = nullptr;
  const auto self = reinterpret_cast<std::uintptr_t>(this);
  ::makecontext(&context_.registers, reinterpret_cast<void (*)()>(&Fiber::enter_ucontext), 2,
                static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
#else
  // Popped by crossdock_switch_stack: r15 r14 r13 r12 rbx rbp and the return address. The stack is aligned after that.
  auto** top = reinterpret_cast<void**>(static_cast<std::byte*>(context_.stack) + kStackBytes);
  void* const pushed[] = {reinterpret_cast<void*>(&crossdock_enter_fiber),
                          nullptr,
                          this,
                          reinterpret_cast<void*>(&Fiber::serve),
                          nullptr,
                          nullptr,
                          nullptr};
  for (void* value : pushed) *--top = value;
  context_.stack_pointer = top;
#endif
}

Fiber::~Fiber() {
  if (!busy_) {  // ends serve(), so that sanitizers drop their records of its frames
    FiberContext here;
    job_ = nullptr;
    ender_ = &here;
    switch_fiber(here, context_);
  }
#if XD_TSAN
  __tsan_destroy_fiber(context_.tsan);
#endif
#if XD_ASAN
  __asan_unpoison_memory_region(context_.stack, context_.stack_bytes);  // frames of a job that did not return
#endif
  ::munmap(mapping_, mapping_bytes_);
}

FiberPool& FiberPool::of_this_thread() {
  thread_local FiberPool pool;
  return pool;
}

std::unique_ptr<Fiber> FiberPool::take() {
  if (idle_.empty()) return std::make_unique<Fiber>();
  std::unique_ptr<Fiber> fiber = std::move(idle_.back());
  idle_.pop_back();
  return fiber;
}

void FiberPool::give(std::unique_ptr<Fiber> fiber) {
  if (!fiber->busy()) idle_.push_back(std::move(fiber));
}

}  // namespace crossdock::testing
