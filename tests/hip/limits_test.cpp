// SPDX-License-Identifier: Apache-2.0
// `crossdock bench --limits` on the fake runtime, with little work: each kernel moves what it should, each line is there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>

#include "gpu/limits.hpp"
#include "hip/runtime.hpp"

namespace crossdock::tools {
namespace {

using hip::Runtime;

constexpr gpu::Work kLittle{6, 1, 20};

TEST(Limits, EveryLineIsThere) {
  ::setenv("CROSSDOCK_BACKEND", "hip", 1);
  ::setenv("FAKE_HIP", "devices=3 cus=7", 1);
  ASSERT_EQ(Runtime::problem(), "");
  const std::vector<Limit> limits = gpu::measure_limits<Runtime>({0, 1, 2}, kLittle);
  std::string all;
  for (const Limit& limit : limits) {
    all += limit.what + "\n";
    EXPECT_TRUE(limit.gbps > 0 || limit.us > 0) << limit.what;
  }
  for (const char* wanted :
       {"graph of empty kernels", "push, 16-byte stores, all others in turn, 8 blocks", "7 blocks",
        "pull, 16-byte loads", "copy engines, ring", "all others at once", "barrier inside a kernel", "flag one way"})
    EXPECT_NE(all.find(wanted), std::string::npos) << wanted << " is missing in\n" << all;
  EXPECT_EQ(all.find("bulk"), std::string::npos) << "AMD GPUs have no bulk copies";
  EXPECT_GT(gpu::best_push<Runtime>({0, 1}, kLittle), 0);
  EXPECT_GT(gpu::signal_us<Runtime>({0, 1, 2}, kLittle), 0);
  EXPECT_EQ(gpu::signal_us<Runtime>({0}, kLittle), 0) << "nobody to hear from";
}

/// Rows go to and come from the others in turn: device d has filled its rows with d + 1.
TEST(Limits, RowsArriveWhereTheyShould) {
  ::setenv("FAKE_HIP", "devices=3", 1);
  ASSERT_EQ(Runtime::problem(), "");
  std::uint64_t gate = 1;
  for (const gpu::Kernel kernel : {gpu::Kernel::push, gpu::Kernel::pull}) {
    gpu::Site site{};
    gpu::Clock clock{~std::uint64_t{0}, 0};
    for (int d = 0; d < 3; ++d) {
      (void)Runtime::SetDevice(d);
      for (int other = 0; other < 3; ++other)
        if (other != d && Runtime::DeviceEnablePeerAccess(other, 0) != hipSuccess) (void)Runtime::GetLastError();
      for (std::byte** memory : {&site.from[d], &site.to[d]})
        hip::check(Runtime::malloc_for_peers(reinterpret_cast<void**>(memory), 6 * gpu::kRowBytes), "test");
      std::memset(site.from[d], d + 1, 6 * gpu::kRowBytes);
      std::memset(site.to[d], 0, 6 * gpu::kRowBytes);
    }
    site.clock = &clock, site.gate = &gate, site.work = kLittle, site.me = 2, site.count = 3;
    hip::check(Runtime::launch(kernel, 2, gpu::kMoveThreads, nullptr, &site), "test");
    for (int row = 0; row < 6; ++row) {
      const int peer = row % 2;  // 0, 1, 0, 1 ... as seen from device 2
      const bool pulls = kernel == gpu::Kernel::pull;
      const std::byte* at = site.to[pulls ? 2 : peer] + row * gpu::kRowBytes;
      const auto wanted = static_cast<std::byte>(pulls ? peer + 1 : 3);
      EXPECT_EQ(std::count(at, at + gpu::kRowBytes, wanted), gpu::kRowBytes) << "row " << row;
    }
    EXPECT_GT(clock.end, clock.begin);
    for (int d = 0; d < 3; ++d) (void)Runtime::Free(site.from[d]), (void)Runtime::Free(site.to[d]);
  }
}

}  // namespace
}  // namespace crossdock::tools
