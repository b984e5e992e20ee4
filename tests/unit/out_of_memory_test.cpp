// SPDX-License-Identifier: Apache-2.0
// Memory of the host that runs out at any allocation: every call of the C interface ends with a status and a text.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "crossdock/crossdock.h"

namespace {

/// Allocations of this thread that still succeed; negative: all.
thread_local long left = -1;

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (left == 0) throw std::bad_alloc();
  if (left > 0) --left;
  void* memory = alignment ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)
                           : std::malloc(bytes ? bytes : 1);
  if (!memory) throw std::bad_alloc();
  return memory;
}

}  // namespace

#define XD_NOT_INLINED __attribute__((noinline))  // g++ would warn of a pair of new and free
XD_NOT_INLINED void* operator new(std::size_t bytes) { return allocate(bytes, 0); }
XD_NOT_INLINED void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
XD_NOT_INLINED void operator delete(void* memory) noexcept { std::free(memory); }
XD_NOT_INLINED void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
XD_NOT_INLINED void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
XD_NOT_INLINED void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

/// All that one rank does, with what it has made so far.
class Session {
 public:
  ~Session() {
    left = -1;
    xd_plan_destroy(plan_);
    xd_received_destroy(received_);
    xd_exchange_destroy(exchange_);
    xd_group_destroy(group_);
    xd_thread_team_destroy(team_);
  }
  /// The first call that does not succeed ends it.
  xd_status run() {
    xd_status status = xd_thread_team_create(1, &team_);
    if (!status) status = join();
    if (!status) status = xd_exchange_create(group_, &config(), &exchange_);
    if (!status) status = dispatch();
    if (!status) status = xd_received_retain_plan(received_, &plan_);
    if (!status) status = combine();
    if (!status) status = xd_group_abort(group_, "enough");
    return status;
  }

 private:
  xd_status join() {
    xd_group_options options;
    XD_INIT(options);
    options.backend = XD_BACKEND_CPU;
    return xd_group_join_thread_team(team_, 0, &options, &group_);
  }
  static const xd_config& config() {
    static const xd_config config = [] {
      xd_config c;
      XD_INIT(c);
      c.hidden = 8, c.num_experts = 2, c.top_k = 1, c.max_tokens_per_rank = 2, c.max_kept_plans = 1;
      c.dispatch_dtype = c.combine_dtype = XD_F32;
      return c;
    }();
    return config;
  }
  xd_status dispatch() {
    xd_dispatch_input in;
    XD_INIT(in);
    in.tokens = tokens_, in.topk_ids = ids_, in.num_tokens = 2;
    return xd_dispatch(exchange_, nullptr, &in, &received_);
  }
  xd_status combine() {
    xd_combine_input in;
    XD_INIT(in);
    in.rows = tokens_, in.out_rows = result_;
    return xd_combine(exchange_, &received_, nullptr, &in);
  }

  alignas(16) float tokens_[16] = {}, result_[16] = {};
  std::int32_t ids_[2] = {0, 1};
  xd_thread_team* team_ = nullptr;
  xd_group* group_ = nullptr;
  xd_exchange* exchange_ = nullptr;
  xd_received* received_ = nullptr;
  xd_plan* plan_ = nullptr;
};

TEST(OutOfMemory, AtEveryAllocationOfTheCInterface) {
  int failed = 0;
  for (long n = 0;; ++n) {
    Session session;
    left = n;
    const xd_status status = session.run();
    const bool was_short = left == 0;
    left = -1;
    if (status == XD_STATUS_OK && !was_short) break;
    if (status == XD_STATUS_OK) continue;  // the last allocation that there was
    ++failed;
    ASSERT_EQ(status, XD_STATUS_SYSTEM) << n << ": " << xd_last_error();
    ASSERT_NE(std::strstr(xd_last_error(), "out of memory"), nullptr) << n << ": " << xd_last_error();
    ASSERT_LT(n, 100000);
  }
  EXPECT_GT(failed, 20);
}

}  // namespace
