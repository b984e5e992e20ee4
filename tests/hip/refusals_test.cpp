// SPDX-License-Identifier: Apache-2.0
// What the HIP machine cannot serve: each refusal is one of the documented exceptions, names device and values, leaves no
// memory and no sticky error behind. The fake runtime plays the refusing part.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "hip/fake_runtime.hpp"
#include "platform/device.hpp"
#include "platform/hip/driver.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

template <class Function>
Function* of_fake(Function&, const char* name) {
  return reinterpret_cast<Function*>(::dlsym(::dlopen("libamdhip64.so.7", RTLD_NOW), name));
}

void pretend(const char* options) { ::setenv("FAKE_HIP", options, 1); }

class Refusal : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("CROSSDOCK_BACKEND", "hip", 1);
    ::unsetenv("CROSSDOCK_IPC");
  }
  void TearDown() override {
    EXPECT_EQ(of_fake(fake_hip_last_error, "fake_hip_last_error")(), 0) << "a sticky error was left behind";
    EXPECT_EQ(of_fake(fake_hip_live, "fake_hip_live")(), 0) << "memory or streams were left behind";
  }
};

/// The text of the `Expected` that `call` throws; another exception or none is a failure, and no text.
template <class Expected, class Call>
std::string refusal_of(Call&& call) {
  try {
    call();
    ADD_FAILURE() << "nothing was refused";
  } catch (const Expected& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "an exception of another class: " << error.what();
  }
  return "";
}

void expect_words(const std::string& text, std::initializer_list<const char*> words) {
  for (const char* word : words) EXPECT_NE(text.find(word), std::string::npos) << "no `" << word << "` in: " << text;
}

Group join(int device) {
  GroupOptions options;
  options.device = device;
  return Group::join(ThreadTeam(1), 0, options);
}

TEST_F(Refusal, NoDevice) {
  pretend("devices=0");
  const char* note = nullptr;
  EXPECT_EQ(platform::num_devices(BackendKind::hip, &note), 0);
  EXPECT_STREQ(note, "no HIP device");
  expect_words(refusal_of<TopologyError>([] { join(0); }), {"backend hip", "no HIP device", "choose cpu"});
  ::unsetenv("CROSSDOCK_BACKEND");
  EXPECT_EQ(Group::join(ThreadTeam(1), 0).backend(), BackendKind::cpu);
}

TEST_F(Refusal, RuntimeOfAnOldVersion) {
  pretend("version=50221153");
  expect_words(refusal_of<TopologyError>([] { join(0); }), {"older than version 6"});
}

TEST_F(Refusal, DeviceThatIsNotThere) {
  pretend("devices=2");
  expect_words(refusal_of<TopologyError>([] { join(2); }), {"device 2", "there are 2", "HIP_VISIBLE_DEVICES"});
}

TEST_F(Refusal, ArchitectureWithoutCode) {
  pretend("minor=0");
  expect_words(refusal_of<TopologyError>([] { join(0); }),
               {"device 0", "9.0", "gfx942, gfx950", "CROSSDOCK_HIP_ARCHITECTURES"});
}

TEST_F(Refusal, WavesOf32) {
  pretend("width=32");
  expect_words(refusal_of<TopologyError>([] { join(1); }), {"device 1", "waves of 32", "64"});
}

TEST_F(Refusal, AnotherClock) {
  pretend("khz=27000");
  expect_words(refusal_of<TopologyError>([] { join(0); }), {"27000 kHz", "100000 kHz"});
}

TEST_F(Refusal, NoPeerAccess) {
  pretend("devices=2 peer=0");
  Log log;
  const ThreadTeam team(2);
  run_threads(2, log, [&](int rank) {
    GroupOptions options;
    options.device = rank;
    options.deadline = kPatience;
    const auto place = [](int r) { return "rank " + std::to_string(r) + " (device " + std::to_string(r) + ")"; };
    const std::string pair = place(rank) + " cannot reach the memory of " + place(1 - rank);
    expect_words(refusal_of<TopologyError>([&] { Group::join(team, rank, options); }),
                 {pair.c_str(), "no peer access"});
  });
  EXPECT_EQ(log.text(), "");
}

TEST_F(Refusal, OutOfMemory) {
  pretend("memory=4194304");  // enough for the group's control words
  Group group = join(0);
  Config config = small_case().config;
  config.max_tokens_per_rank = 1 << 16;
  expect_words(refusal_of<SystemError>([&] { Exchange exchange(group, config); }),
               {"allocating", "bytes on device 0", "out of memory", "hipErrorOutOfMemory"});
}

TEST_F(Refusal, MappingThatFails) {
  ::setenv("CROSSDOCK_IPC", "vmm", 1);
  pretend("map=0");
  expect_words(refusal_of<SystemError>([] { join(0); }), {"mapping", "bytes on device 0"});
}

TEST_F(Refusal, UnknownShare) {
  ::setenv("CROSSDOCK_IPC", "smoke", 1);
  pretend("");
  expect_words(refusal_of<ConfigError>([] { join(0); }), {"CROSSDOCK_IPC", "smoke", "vmm or ipc"});
}

TEST_F(Refusal, CodeThatDoesNotLoad) {
  pretend("devices=8 load=0");
  Group group = join(7);  // no other test has loaded it there
  expect_words(refusal_of<SystemError>([&] { Exchange exchange(group, small_case().config); }),
               {"loading the code for gfx942", "hipErrorNoBinaryForGpu"});
}

TEST_F(Refusal, TooManyRanksForTheComputeUnits) {
  pretend("occupancy=0");
  Group group = join(0);
  expect_words(refusal_of<TopologyError>([&] { Exchange exchange(group, small_case().config); }),
               {"more than its multiprocessors can hold"});
}

/// A group of one rank on device 0 of two, with what a call needs.
struct Ready {
  Ready()
      : group(join(0)),
        exchange(group, small_case(1).config),
        rows(BackendKind::hip, 4096),
        ids(BackendKind::hip, 4096, 0) {}
  DispatchInput input() const { return {.tokens = rows.data(), .topk_ids = ids.data(), .num_tokens = 2}; }
  Group group;
  Exchange exchange;
  Buffer rows, ids;
};

TEST_F(Refusal, PointersOfTheHostAndOfAnotherDevice) {
  pretend("devices=2");
  const Ready ready;
  alignas(16) static float host[1024];
  DispatchInput input = ready.input();
  input.tokens = host;
  Exchange& exchange = const_cast<Exchange&>(ready.exchange);
  expect_words(refusal_of<UsageError>([&] { exchange.dispatch(input); }), {"is a host pointer", "device 0"});
  use_device(BackendKind::hip, 1);
  const Buffer elsewhere(BackendKind::hip, 4096);
  use_device(BackendKind::hip, 0);
  input.tokens = elsewhere.data();
  expect_words(refusal_of<UsageError>([&] { exchange.dispatch(input); }), {"lies on device 1", "device 0"});
}

TEST_F(Refusal, StreamOfAnotherDevice) {
  pretend("devices=2");
  const platform::hip::Driver& driver = platform::hip::driver();
  hipStream_t stream = nullptr;
  (void)driver.set_device(1);
  platform::hip::check(driver.stream_create(&stream, hipStreamNonBlocking, 0), "test");
  (void)driver.set_device(0);
  {
    Ready ready;
    const auto call = [&] { ready.exchange.dispatch(ready.input(), {.stream = stream}); };
    expect_words(refusal_of<UsageError>(call), {"stream belongs to device 1", "device 0"});
  }
  (void)driver.stream_destroy(stream);
}

TEST_F(Refusal, LaunchThatFails) {
  pretend("devices=1");
  Ready ready;
  pretend("devices=1 launch=0");
  expect_words(refusal_of<SystemError>([&] { ready.exchange.dispatch(ready.input()); }),
               {"crossdock_dispatch", "launch failed", "hipErrorLaunchFailure"});
  pretend("devices=1");
}

}  // namespace
}  // namespace crossdock::testing
