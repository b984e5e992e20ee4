// SPDX-License-Identifier: Apache-2.0
// The plug-in on the HIP runtime that this machine has, if any: without an AMD GPU it says so, and the CPU serves.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>

#include "crossdock/crossdock.hpp"
#include "platform/device.hpp"
#include "platform/hip/driver.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

TEST(RealRuntime, WithoutADeviceTheReasonIsGivenAndTheCpuServes) {
  const char* note = nullptr;
  if (platform::num_devices(BackendKind::hip, &note) > 0) return;  // OnAGpu has its tests
  const std::string_view reason = note;
  EXPECT_TRUE(reason == "no HIP device" || reason.starts_with("no HIP runtime: libamdhip64.so")) << reason;
  std::printf("the reason: %s\n", note);
  try {
    Group::join(ThreadTeam(1), 0, {.backend = BackendKind::hip});
    ADD_FAILURE() << "a group was made";
  } catch (const TopologyError& error) {
    EXPECT_NE(std::string_view(error.what()).find(reason), std::string_view::npos) << error.what();
  }
  ::unsetenv("CROSSDOCK_BACKEND");
  const bool cuda = platform::num_devices(BackendKind::cuda, &note) > 0;
  EXPECT_EQ(Group::join(ThreadTeam(1), 0).backend(), cuda ? BackendKind::cuda : BackendKind::cpu);
  TestCase test = small_case();
  test.backend = BackendKind::cpu;
  EXPECT_EQ(run_case(test), "");
}

/// Tests called OnAGpu are for people who have one; ctest does not know them.
TEST(OnAGpu, ACaseIsBitExact) {
  ::setenv("CROSSDOCK_BACKEND", "hip", 1);
  TestCase test = small_case();
  test.backend = BackendKind::hip;
  EXPECT_EQ(run_case(test), "");
}

/// Before CROSSDOCK_HIP_HARDWARE_CONVERSIONS may be turned on: every code and every f32, on such a GPU.
TEST(OnAGpu, HardwareConversionsAgreeOnEveryCode) {
  const platform::hip::Driver& hip = platform::hip::driver();
  int minor = 0;
  platform::hip::check(hip.device_attribute(&minor, hipDeviceAttributeComputeCapabilityMinor, 0), "test");
  std::ifstream file(std::string(CROSSDOCK_ALL_CODES) + (minor == 4 ? ".gfx942.co" : ".gfx950.co"), std::ios::binary);
  const std::string code{std::istreambuf_iterator<char>(file), {}};
  ASSERT_FALSE(code.empty());
  hipModule_t module{};
  platform::hip::check(hip.module_load(&module, code.data()), "loading all_codes");
  struct Differences {
    std::uint64_t count;
    std::uint32_t input, hardware, software;
  };
  for (const auto& [kernel, blocks] : {std::pair{"compare_widen", 1}, std::pair{"compare_narrow", 1 << 16}}) {
    const Buffer found(BackendKind::hip, sizeof(Differences), 0);
    hipFunction_t function{};
    platform::hip::check(hip.module_function(&function, module, kernel), kernel);
    void* at = found.data();
    void* arguments[] = {&at};
    platform::hip::check(hip.module_launch(function, blocks, 1, 1, 256, 1, 1, 0, nullptr, arguments, nullptr), kernel);
    synchronize(BackendKind::hip, nullptr);
    Differences differences{};
    copy_out(BackendKind::hip, &differences, found.data(), sizeof differences);
    EXPECT_EQ(differences.count, 0u) << kernel << ": input " << std::hex << differences.input << " became "
                                     << differences.hardware << ", must be " << differences.software;
  }
}

TEST(RealRuntime, AFolderWithoutPlugin) {
  ::setenv("CROSSDOCK_PLUGIN_DIR", "/nonexistent", 1);
  const char* note = nullptr;
  EXPECT_EQ(platform::num_devices(BackendKind::hip, &note), 0);
  EXPECT_STREQ(note, "no libcrossdock_hip.so in /nonexistent");
}

}  // namespace
}  // namespace crossdock::testing
