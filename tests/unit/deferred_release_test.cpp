// SPDX-License-Identifier: Apache-2.0
// Memory that is given up is freed at once if its calls have ended, else by a later owner; nobody waits.
#include "memory/deferred_release.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <set>

#include "crossdock/cpu_stream.hpp"

namespace crossdock::memory {
namespace {

class DeferredReleaseTest : public ::testing::Test {
 protected:
  /// Gives up the only reference to a block; the test looks at it from afar.
  std::weak_ptr<platform::Block> hold_block() {
    auto block = device_->allocate(1, platform::Share::none);
    const std::weak_ptr<platform::Block> seen = block;
    in_use_->hold(std::move(block));
    return seen;
  }
  void hold_up(CpuStream& stream) {
    stream.enqueue([this] { open_.wait(false); });
  }
  void let_go() {
    open_ = true;
    open_.notify_all();
  }
  void call_on(CpuStream& stream) { in_use_->end_of_calls_on(stream.handle()).mark(stream.handle()); }
  void someone_comes() { const DeferredRelease other(*device_); }

  std::atomic<bool> open_{false};
  std::shared_ptr<platform::Device> device_ = platform::open_device(BackendKind::cpu, -1);
  std::optional<DeferredRelease> in_use_{std::in_place, *device_};
};

TEST_F(DeferredReleaseTest, FreesAtOnceWhatNoCallUses) {
  const auto untouched = hold_block();
  in_use_.reset();
  EXPECT_TRUE(untouched.expired());

  in_use_.emplace(*device_);
  const auto block = hold_block();
  CpuStream stream;
  call_on(stream);
  in_use_->end_of_calls_on(nullptr).mark(nullptr);
  stream.synchronize();
  in_use_.reset();
  EXPECT_TRUE(block.expired());
}

TEST_F(DeferredReleaseTest, KeepsWhatACallUsesUntilSomeoneComesAfterItsEnd) {
  const auto block = hold_block();
  CpuStream stream;
  hold_up(stream);
  call_on(stream);
  in_use_.reset();
  someone_comes();
  EXPECT_FALSE(block.expired());
  let_go();
  stream.synchronize();
  EXPECT_FALSE(block.expired());
  someone_comes();
  EXPECT_TRUE(block.expired());
}

TEST_F(DeferredReleaseTest, WaitsForTheLastCallOfEachStream) {
  const auto block = hold_block();
  CpuStream idle, busy;
  call_on(busy);
  busy.synchronize();
  call_on(idle);
  hold_up(busy);
  call_on(busy);
  call_on(idle);
  idle.synchronize();
  in_use_.reset();
  EXPECT_FALSE(block.expired());
  let_go();
  busy.synchronize();
  someone_comes();
  EXPECT_TRUE(block.expired());
}

TEST_F(DeferredReleaseTest, TheStreamMayGoBeforeTheMemory) {
  const auto block = hold_block();
  {
    CpuStream stream;
    call_on(stream);
  }
  in_use_.reset();
  EXPECT_TRUE(block.expired());
}

TEST_F(DeferredReleaseTest, MakesNoMoreEventsThanStreamsAreBusy) {
  std::set<const platform::Event*> moments;
  for (int n = 0; n < 20; ++n) {
    CpuStream stream;
    call_on(stream);
    stream.synchronize();
    moments.insert(&in_use_->end_of_calls_on(stream.handle()));
  }
  EXPECT_EQ(moments.size(), 1u);
  CpuStream one, two;
  hold_up(one);
  hold_up(two);
  call_on(one);
  call_on(two);
  EXPECT_NE(&in_use_->end_of_calls_on(one.handle()), &in_use_->end_of_calls_on(two.handle()));
  let_go();
}

}  // namespace
}  // namespace crossdock::memory
