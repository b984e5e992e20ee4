// SPDX-License-Identifier: Apache-2.0
// The plug-in on the fake runtime: its host half, its launch table and the bodies with 64 lanes together, bit-exact on every
// rank. What the fake does not show is said in fake_runtime.cpp.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "backend/matrix.hpp"
#include "hip/fake_runtime.hpp"
#include "platform/device.hpp"
#include "platform/hip/driver.hpp"
#include "support/harness.hpp"
#include "support/processes.hpp"

namespace crossdock::testing {
namespace {

class HostHalf : public ::testing::Test {
 protected:
  void SetUp() override { ::setenv("CROSSDOCK_BACKEND", "hip", 1); }
  void TearDown() override {
    ::unsetenv("FAKE_HIP");
    ::unsetenv("CROSSDOCK_IPC");
  }
  /// What the fake runtime has not been given back.
  static int live() {
    void* runtime = ::dlopen("libamdhip64.so.7", RTLD_NOW | RTLD_NOLOAD);
    if (!runtime) throw std::runtime_error("the fake runtime is not loaded");
    return reinterpret_cast<decltype(&fake_hip_live)>(::dlsym(runtime, "fake_hip_live"))();
  }
};

TestCase hip_case(int ranks) {
  TestCase test = small_case(ranks);
  test.backend = BackendKind::hip;
  test.config.scale_bytes = 7;
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  test.recipe.routing = oracle::Routing::mixed;
  return test;
}

/// Two processes of two ranks each; first of all tests, because they fork, and streams do not outlive that. The runtime refuses to open a handle in the process that made it.
void ranks_as_processes(const char* share) {
  ::setenv("CROSSDOCK_IPC", share, 1);
  ::setenv("FAKE_HIP", "devices=2", 1);
  const RuntimeDir runtime_dir;
  const std::string name = unique_name();
  const TestCase test = hip_case(4);
  const Answers answers = answers_of(test);
  const auto reports = run_processes(2, [&](int process) {
    Log log;
    run_threads(2, log, [&](int thread) {
      const int rank_idx = process * 2 + thread;
      GroupOptions options;
      options.backend = BackendKind::hip;
      options.device = rank_idx % 2;
      options.deadline = kPatience;
      use_device(BackendKind::hip, rank_idx % 2);
      Rank rank(test, Group::rendezvous(name, rank_idx, 4, options), log);
      rank.run(answers);
    });
    return log.text();
  });
  for (const ProcessReport& report : reports) {
    EXPECT_EQ(report.text, "");
    EXPECT_EQ(report.exit_status, 0);
  }
}

TEST_F(HostHalf, ProcessesShareByHandles) { ranks_as_processes("ipc"); }
TEST_F(HostHalf, ProcessesShareByDescriptors) { ranks_as_processes("vmm"); }

TEST_F(HostHalf, IsThereWithItsDevices) {
  ::setenv("FAKE_HIP", "devices=3", 1);
  const char* note = nullptr;
  EXPECT_EQ(platform::num_devices(BackendKind::hip, &note), 3) << note;
  const auto device = platform::open_device(BackendKind::hip, 2);
  EXPECT_EQ(device->ordinal(), 2);
  EXPECT_EQ(device->limits().num_sms, 3);
  EXPECT_EQ(device->limits().width, 64);
  EXPECT_EQ(device->limits().max_threads, 128);
  EXPECT_EQ(device->model(), "AMD Instinct of cardboard");
  EXPECT_EQ(device->id(), platform::open_device(BackendKind::hip, 2)->id());
  EXPECT_NE(device->id(), platform::open_device(BackendKind::hip, 1)->id());
  EXPECT_EQ(device->peer_access_error_by_id(platform::open_device(BackendKind::hip, 1)->id()), "");
}

TEST_F(HostHalf, IsWhatAutomaticTakes) {
  ::unsetenv("CROSSDOCK_BACKEND");
  EXPECT_EQ(Group::join(ThreadTeam(1), 0).backend(), BackendKind::hip);
}

/// Every cell of the feature matrix that runs, one variant each; ranks have devices of their own or share them.
TEST_F(HostHalf, EveryCellIsBitExact) {
  std::vector<Cell> cells;
  for (const Cell& cell : all_cells())
    if (refusal_of(cell).empty()) cells.push_back(cell);
  const Summary sum = walk(cells, [](const Cell& cell, int idx) {
    ::setenv("FAKE_HIP", idx % 2 ? "devices=3 order=7" : "devices=2 cus=5 threads=64", 1);
    return std::vector<TestCase>{case_of(cell, idx % kNumVariants, 3)};
  });
  EXPECT_EQ(sum.failures, "");
  EXPECT_EQ(sum.run, static_cast<int>(cells.size()));
  EXPECT_EQ(live(), 0);
}

/// Each on a GPU of its own, joined pairwise.
TEST_F(HostHalf, TwoToEightGpus) {
  ::setenv("FAKE_HIP", "devices=8", 1);
  for (int ranks = 2; ranks <= 8; ++ranks) EXPECT_EQ(run_case(hip_case(ranks)), "") << ranks;
  EXPECT_EQ(live(), 0);
}

TEST_F(HostHalf, MemoryLeftUnderWayIsFreedByWhoComesNext) {
  for (const char* share : {"ipc", "vmm"}) {
    ::setenv("CROSSDOCK_IPC", share, 1);
    ::setenv("FAKE_HIP", "devices=2", 1);
    const TestCase test = hip_case(3);
    const Answers answers = answers_of(test);
    const ThreadTeam team(3);
    Log log;
    {
      Gate all_gone(3);  // with memory of its own
      run_threads(3, log,
                  [&](int r) { leave_under_way(std::make_unique<Rank>(test, team, r, log), answers, all_gone); });
    }
    EXPECT_EQ(log.text(), "");
    EXPECT_GT(live(), 0);
    EXPECT_EQ(run_case(test), "");
    EXPECT_EQ(live(), 0);
  }
}

TEST_F(HostHalf, FusedAndSeveralRounds) {
  ::setenv("FAKE_HIP", "devices=2", 1);
  TestCase test = hip_case(4);
  set_path(test.config, Path::fused);
  test.rounds = 3;
  EXPECT_EQ(run_case(test), "");
}

TEST_F(HostHalf, Gfx950TakesItsOwnCode) {
  ::setenv("FAKE_HIP", "devices=1 minor=5", 1);
  EXPECT_EQ(run_case(hip_case(2)), "");
}

TEST_F(HostHalf, ThreadsOverMappedMemory) {
  ::setenv("CROSSDOCK_IPC", "vmm", 1);
  ::setenv("FAKE_HIP", "devices=3 granularity=65536", 1);
  EXPECT_EQ(run_case(hip_case(3)), "");
  EXPECT_EQ(live(), 0);
}

TEST_F(HostHalf, OnACallersStream) {
  ::setenv("FAKE_HIP", "devices=1", 1);
  const TestCase test = hip_case(2);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    hipStream_t stream = nullptr;
    platform::hip::check(platform::hip::driver().stream_create(&stream, hipStreamNonBlocking, 0), "test");
    rank.run(answers, stream);
    (void)platform::hip::driver().stream_destroy(stream);
  });
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace crossdock::testing
