// SPDX-License-Identifier: Apache-2.0
// The scheduler of a fiber launch, and the meetings that implement barriers and warp collectives.
#include "fiber/fiber_launch.hpp"

#include <sched.h>

#include <stdexcept>

#include "crossdock/error.hpp"
#include "platform/cpu/scalar_machine.hpp"

#if XD_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace crossdock::testing {

namespace {

constexpr const char* kCallNames[] = {"none", "sync_block", "sync_block_or", "sync_warp", "max_across", "ballot"};
const char* name_of(FiberCall call) { return kCallNames[static_cast<int>(call)]; }

XD_NO_TSAN void release([[maybe_unused]] void* edge) {
#if XD_TSAN
  __tsan_release(edge);
#endif
}
XD_NO_TSAN void acquire([[maybe_unused]] void* edge) {
#if XD_TSAN
  __tsan_acquire(edge);
#endif
}

#if XD_TSAN
/// An atomic that ThreadSanitizer sees, for functions that it does not look at.
__attribute__((noinline)) void store_release_instrumented(std::uint64_t* p, std::uint64_t v) {
  __atomic_store_n(p, v, __ATOMIC_RELEASE);
}
#endif

/// Only barriers order memory. max_across and ballot exchange a value and order nothing, as on a GPU.
constexpr bool orders_memory(FiberCall call) { return call <= FiberCall::sync_warp; }

}  // namespace

int FiberLaunch::num_fibers_of(const platform::Geometry& geometry, int width) {
  if (geometry.num_blocks < 1 || geometry.num_threads < 1 || geometry.num_threads % width != 0) {
    throw UsageError("fiber launch of " + std::to_string(geometry.num_blocks) + " blocks of " +
                     std::to_string(geometry.num_threads) + " threads: a block must have a positive multiple of " +
                     std::to_string(width) + " threads");
  }
  return geometry.num_blocks * geometry.num_threads;
}

FiberLaunch::FiberLaunch(const platform::Geometry& geometry, int width, const FiberOptions& options)
    : geometry_(geometry),
      width_(width),
      num_fibers_(num_fibers_of(geometry, width)),
      random_(options.seed),
      fibers_(num_fibers_),
      block_meetings_(geometry.num_blocks),
      warp_meetings_(num_fibers_ / width),
      multiprocessors_(options.multiprocessors),
      left_of_block_(geometry.num_blocks),
      mine_(num_fibers_),
      result_(num_fibers_),
      waits_in_(num_fibers_),
      ended_(num_fibers_),
      ready_(num_fibers_) {
  for (int b = 0; b < geometry.num_blocks; ++b) {
    block_meetings_[b].first_fiber = b * geometry.num_threads;
    block_meetings_[b].num_fibers = geometry.num_threads;
  }
  for (int w = 0; w < num_fibers_ / width; ++w) {
    warp_meetings_[w].first_fiber = w * width;
    warp_meetings_[w].num_fibers = width;
  }
}

bool Multiprocessors::take(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (!given_.wait_for(lock, patience, [this] { return free_ > 0; })) return false;
  --free_;
  return true;
}
void Multiprocessors::give() {
  const std::lock_guard lock(mutex_);
  ++free_;
  given_.notify_one();
}

FiberLaunch::~FiberLaunch() {
  for (; multiprocessors_ != nullptr && num_running_ > 0; --num_running_) multiprocessors_->give();
  for (int i = num_fibers_ - 1; i >= 0; --i)
    if (fibers_[i] != nullptr) FiberPool::of_this_thread().give(std::unique_ptr<Fiber>(fibers_[i]));
}

void FiberLaunch::run(Entry entry, void* argument) {
  entry_ = entry;
  argument_ = argument;
  for (int i = 0; i < num_fibers_; ++i) {
    fibers_[i] = FiberPool::of_this_thread().take().release();
    fibers_[i]->set_job(&run_one, this, i);
  }
  release(&began_);
  if (multiprocessors_ != nullptr) {
    if (!multiprocessors_->take(std::chrono::minutes(2)))
      throw std::logic_error("kernel body: no multiprocessor was free for two minutes");
    begin_block();
  } else {
    while (num_begun_ < geometry_.num_blocks) begin_block();
  }
  current_ = take_ready();
  switch_fiber(caller_, fibers_[current_]->context());
  for (int i = 0; i < num_fibers_; ++i)
    if (!ended_[i]) release_for(fibers_[i]->context(), &over_);
  acquire(&over_);
  if (failed_) std::rethrow_exception(failure_);
  if (num_ended_ < num_fibers_) throw std::logic_error(describe_stuck());
}

FiberContext& FiberLaunch::run_one(void* self_pointer, int fiber) {
  auto* self = static_cast<FiberLaunch*>(self_pointer);
  acquire(&self->began_);
  self->call_entry(fiber);
  self->ended_[fiber] = true;
  ++self->num_ended_;
  if (--self->left_of_block_[fiber / self->geometry_.num_threads] == 0) self->end_block();
  release(&self->over_);
  self->current_ = self->failed_ ? -1 : self->take_ready();
  return self->current_ < 0 ? self->caller_ : self->fibers_[self->current_]->context();
}

/// Makes the fibers of the next block ready.
void FiberLaunch::begin_block() {
  const int first = num_begun_ * geometry_.num_threads;
  left_of_block_[num_begun_] = geometry_.num_threads;
  for (int i = first; i < first + geometry_.num_threads; ++i) make_ready(i);
  ++num_begun_, ++num_running_;
}
void FiberLaunch::begin_more_blocks() {
  while (multiprocessors_ != nullptr && num_begun_ < geometry_.num_blocks && multiprocessors_->try_take())
    begin_block();
}
/// The next block takes its multiprocessor.
void FiberLaunch::end_block() {
  --num_running_;
  if (multiprocessors_ == nullptr) return;
  if (num_begun_ < geometry_.num_blocks && !failed_)
    begin_block();
  else
    multiprocessors_->give();
}

void FiberLaunch::call_entry(int fiber) {
  try {
    entry_(argument_, fiber);
  } catch (...) {
    failure_ = std::current_exception();
    failed_ = true;
  }
}

void FiberLaunch::store_release_of_caller(std::uint64_t* p, std::uint64_t v) {
#if XD_TSAN
  void* const running = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(caller_.tsan, __tsan_switch_to_fiber_no_sync);
  store_release_instrumented(p, v);
  __tsan_switch_to_fiber(running, __tsan_switch_to_fiber_no_sync);
#else
  platform::cpu::Memory::store_release(p, v);
#endif
}

void FiberLaunch::make_ready(int fiber) {
  ready_[(ready_first_ + num_ready_) % num_fibers_] = fiber;
  ++num_ready_;
}

int FiberLaunch::take_ready() {
  if (num_ready_ == 0) return -1;
  int& first = ready_[ready_first_];
  if (random_ != 0) {
    int& drawn = ready_[(ready_first_ + static_cast<int>(draw() % static_cast<unsigned>(num_ready_))) % num_fibers_];
    const int fiber = drawn;
    drawn = first;
    first = fiber;
  }
  const int fiber = first;
  ready_first_ = (ready_first_ + 1) % num_fibers_;
  --num_ready_;
  return fiber;
}

/// Switches to the next ready fiber, or to the caller of run() if none is ready. Returns when this fiber is resumed.
void FiberLaunch::leave_to_next() {
  const int me = current_;
  const int next = take_ready();
  if (next == me) return;
  current_ = next;
  switch_fiber(fibers_[me]->context(), next < 0 ? caller_ : fibers_[next]->context());
}

void FiberLaunch::pause() {
  if (++pauses_ > num_ready_) {  // every ready fiber has had a turn: other ranks, which are OS threads, may run
    pauses_ = 0;
    begin_more_blocks();
    ::sched_yield();
  }
  make_ready(current_);
  leave_to_next();
}

void FiberLaunch::maybe_yield() {
  if (draw() % 8 != 0) return;
  make_ready(current_);
  leave_to_next();
}

std::uint64_t FiberLaunch::draw() {  // xorshift64*
  random_ ^= random_ >> 12;
  random_ ^= random_ << 25;
  random_ ^= random_ >> 27;
  return (random_ * 0x2545f4914f6cdd1dull) >> 32;
}

FiberLaunch::Value FiberLaunch::meet(FiberCall call, int fiber, Value mine, int span) {
  const bool of_block = call <= FiberCall::sync_block_or;
  Meeting& meeting = of_block ? block_meetings_[fiber / geometry_.num_threads] : warp_meetings_[fiber / width_];
  if (meeting.arrived == 0) {
    meeting.call = call;
    meeting.span = span;
  } else if (meeting.call != call || meeting.span != span) {
    misuse_ = kCallNames[static_cast<int>(call)];
    waits_in_[fiber] = &meeting;
    num_ready_ = 0;  // no fiber is resumed any more, so run() reports the misuse
    leave_to_next();
  }
  char& order = meeting.order[meeting.round % 2];
  if (orders_memory(call)) release(&order);
  mine_[fiber] = mine;
  if (++meeting.arrived < meeting.num_fibers) {
    waits_in_[fiber] = &meeting;
    leave_to_next();
  } else {
    finish(meeting);
    if (random_ != 0) maybe_yield();
  }
  if (orders_memory(call)) acquire(&order);
  return result_[fiber];
}

/// Called by the last fiber to arrive: computes the results and makes the others ready.
void FiberLaunch::finish(Meeting& meeting) {
  const int first = meeting.first_fiber, num = meeting.num_fibers;
  Value all{};
  for (int i = first; i < first + num; ++i) {
    if (meeting.call == FiberCall::sync_block_or) all.flag |= mine_[i].flag;
    if (meeting.call == FiberCall::ballot) all.bits |= mine_[i].bits << (i - first);
  }
  for (int i = first; i < first + num; ++i) {
    result_[i].flag = all.flag;
    if (meeting.call == FiberCall::ballot) result_[i].bits = all.bits;
    if (meeting.call == FiberCall::max_across) {
      const int group = first + (i - first) / meeting.span * meeting.span;
      float most = mine_[group].number;
      for (int j = group + 1; j < group + meeting.span; ++j) most = __builtin_fmaxf(most, mine_[j].number);
      result_[i].number = most;
    }
    if (waits_in_[i] == &meeting) {
      waits_in_[i] = nullptr;
      make_ready(i);
    }
  }
  meeting.arrived = 0;
  ++meeting.round;
}

std::string FiberLaunch::describe_stuck() const {
  std::string text = "kernel body: ";
  if (misuse_ != nullptr)
    text += std::string("threads of one group meet in different calls, one of them ") + misuse_ + "; ";
  for (int b = 0; b < geometry_.num_blocks; ++b) {
    int waiting[6] = {}, ended = 0;
    for (int i = b * geometry_.num_threads; i < (b + 1) * geometry_.num_threads; ++i) {
      if (waits_in_[i] != nullptr) ++waiting[static_cast<int>(waits_in_[i]->call)];
      ended += ended_[i];
    }
    text += "block " + std::to_string(b) + ": ";
    for (int c = 1; c < 6; ++c)
      if (waiting[c] > 0)
        text += std::to_string(waiting[c]) + " threads wait in " + name_of(static_cast<FiberCall>(c)) + ", ";
    text += std::to_string(ended) + " of " + std::to_string(geometry_.num_threads) + " have ended; ";
  }
  return text + "every thread of a block or warp must make each of its common calls, in the same order";
}

}  // namespace crossdock::testing
