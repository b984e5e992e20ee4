// SPDX-License-Identifier: Apache-2.0
// Streams and graphs of the CPU machine.
#include "platform/cpu/stream.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "crossdock/cpu_stream.hpp"
#include "crossdock/error.hpp"

namespace crossdock {
namespace {

using platform::cpu::enqueue_on;

TEST(Stream, RunsInOrderOnAnotherThread) {
  CpuStream stream;
  std::vector<int> order;
  std::thread::id where;
  for (int i = 0; i < 1000; ++i) enqueue_on(stream.handle(), [&, i] { order.push_back(i); });
  stream.enqueue([&] { where = std::this_thread::get_id(); });
  stream.synchronize();
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[i], i);
  EXPECT_NE(where, std::this_thread::get_id());
}

TEST(Stream, NullRunsHereAndNow) {
  std::thread::id where;
  enqueue_on(nullptr, [&] { where = std::this_thread::get_id(); });
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST(Stream, WrongHandlesAreRefused) {
  int something = 0;
  bool ran = false;
  EXPECT_THROW(enqueue_on(&something, [&] { ran = true; }), UsageError);
  EXPECT_THROW(enqueue_on(reinterpret_cast<StreamHandle>(0x2), [&] { ran = true; }), UsageError);
  StreamHandle dead = nullptr;
  {
    CpuStream stream;
    dead = stream.handle();
    EXPECT_NO_THROW(platform::cpu::check_stream(dead));
  }
  EXPECT_THROW(enqueue_on(dead, [&] { ran = true; }), UsageError);
  EXPECT_FALSE(ran);
  try {
    enqueue_on(&something, [] {});
  } catch (const UsageError& e) {
    EXPECT_NE(std::string(e.what()).find("not the handle of a live CpuStream"), std::string::npos) << e.what();
  }
}

TEST(Stream, ManyStreamsAreFound) {
  std::vector<std::unique_ptr<CpuStream>> streams;
  for (int i = 0; i < 70; ++i) streams.push_back(std::make_unique<CpuStream>());
  std::atomic<int> total{0};
  for (auto& stream : streams) enqueue_on(stream->handle(), [&] { ++total; });
  for (auto& stream : streams) stream->synchronize();
  EXPECT_EQ(total, 70);
  const StreamHandle first = streams[0]->handle();
  streams.clear();
  EXPECT_THROW(platform::cpu::check_stream(first), UsageError);
}

TEST(Stream, ExceptionIsKeptForSynchronize) {
  CpuStream stream;
  int after = 0;
  stream.enqueue([] { throw std::runtime_error("first"); });
  stream.enqueue([] { throw std::runtime_error("second"); });
  stream.enqueue([&] { ++after; });
  try {
    stream.synchronize();
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& e) {
    EXPECT_STREQ(e.what(), "first");
  }
  EXPECT_EQ(after, 1);
  EXPECT_NO_THROW(stream.synchronize());  // told once
}

TEST(Stream, DestructorRunsWhatIsQueued) {
  std::atomic<int> total{0};
  {
    CpuStream stream;
    for (int i = 0; i < 100; ++i) stream.enqueue([&] { ++total; });
    stream.enqueue([] { throw std::runtime_error("nobody asks"); });
  }
  EXPECT_EQ(total, 100);
}

TEST(Stream, CaptureRecordsAndReplayRuns) {
  CpuStream stream, other;
  int total = 0;
  EXPECT_FALSE(stream.capturing());
  stream.begin_capture();
  EXPECT_TRUE(stream.capturing());
  for (int i = 1; i <= 3; ++i) enqueue_on(stream.handle(), [&, i] { total = total * 10 + i; });
  const CpuGraph graph = stream.end_capture();
  stream.synchronize();
  EXPECT_EQ(total, 0);
  EXPECT_EQ(graph.num_calls(), 3u);
  stream.replay(graph);
  stream.replay(graph);
  stream.synchronize();
  EXPECT_EQ(total, 123123);
  other.replay(graph);
  other.synchronize();
  EXPECT_EQ(total, 123123123);
}

TEST(Stream, GraphOutlivesItsStreamsAlsoWhenNested) {
  int total = 0;
  CpuGraph outer;
  {
    CpuStream stream;
    stream.begin_capture();
    stream.enqueue([&] { ++total; });
    const CpuGraph inner = stream.end_capture();
    stream.begin_capture();
    stream.replay(inner);
    stream.enqueue([&] { total *= 10; });
    stream.replay(inner);
    outer = stream.end_capture();
  }
  EXPECT_EQ(outer.num_calls(), 3u);
  CpuStream stream;
  stream.replay(outer);
  stream.synchronize();
  EXPECT_EQ(total, 11);
}

TEST(Stream, EmptyGraph) {
  CpuStream stream;
  stream.replay(CpuGraph());
  stream.begin_capture();
  const CpuGraph graph = stream.end_capture();
  EXPECT_EQ(graph.num_calls(), 0u);
  stream.replay(graph);
  stream.synchronize();
}

TEST(Stream, MisuseIsRefused) {
  CpuStream stream;
  EXPECT_THROW(stream.end_capture(), StateError);
  EXPECT_THROW(stream.enqueue(nullptr), UsageError);
  stream.begin_capture();
  EXPECT_THROW(stream.begin_capture(), StateError);
  EXPECT_THROW(stream.synchronize(), StateError);
  stream.end_capture();
  stream.enqueue([&] { stream.synchronize(); });
  EXPECT_THROW(stream.synchronize(), StateError);
}

TEST(Stream, ManyThreadsEnqueue) {
  CpuStream stream;
  int total = 0;  // only the stream's thread touches it
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) enqueue_on(stream.handle(), [&] { ++total; });
    });
  }
  for (auto& thread : threads) thread.join();
  stream.synchronize();
  EXPECT_EQ(total, 800);
}

TEST(Stream, WhatACallHoldsIsFreedBeforeSynchronizeReturns) {
  CpuStream stream;
  auto held = std::make_shared<int>(1);
  stream.enqueue([held] {});
  stream.synchronize();
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace crossdock
