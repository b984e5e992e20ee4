// SPDX-License-Identifier: Apache-2.0
// `crossdock bench --limits` on the fake runtime, with little work: each kernel moves what it should, each line is there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <thread>

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
        "pull, 16-byte loads", "copy engines, ring", "all others at once", "barrier inside a kernel", "flag one way",
        "graph of kernels with one barrier", "a launch, of the host", "a launch and an event",
        "push, 16-byte stores, rows of 7168, all others in turn, 8 blocks"})
    EXPECT_NE(all.find(wanted), std::string::npos) << wanted << " is missing in\n" << all;
  EXPECT_EQ(all.find("bulk"), std::string::npos) << "AMD GPUs have no bulk copies";
  EXPECT_GT(gpu::best_push<Runtime>({0, 1}, kLittle), 0);
  Traffic to_one(3);
  EXPECT_EQ(gpu::pattern_push<Runtime>({0, 1, 2}, to_one, kLittle), 0) << "nothing crosses";
  to_one.add(1, 0, 1 << 20), to_one.add(2, 0, 1 << 20);
  EXPECT_GT(gpu::pattern_push<Runtime>({0, 1, 2}, to_one, kLittle), 0);
  EXPECT_EQ(gpu::pattern_push<Runtime>({0, 1}, to_one, kLittle), 0) << "two ranks share a device";
  EXPECT_GT(gpu::signal_us<Runtime>({0, 1, 2}, kLittle), 0);
  EXPECT_EQ(gpu::signal_us<Runtime>({0}, kLittle), 0) << "nobody to hear from";
}

/// Kernels of a graph meet once each: none leaves before all have come, and the next one counts on.
TEST(Limits, KernelsOfAGraphMeetOnceEach) {
  ::setenv("FAKE_HIP", "devices=2", 1);
  ASSERT_EQ(Runtime::problem(), "");
  constexpr int kKernels = 5;
  gpu::Site site{};
  Runtime::Stream streams[2];
  for (int d = 0; d < 2; ++d) {
    (void)Runtime::SetDevice(d);
    if (Runtime::DeviceEnablePeerAccess(1 - d, 0) != hipSuccess) (void)Runtime::GetLastError();
    for (std::byte** memory : {&site.from[d], &site.to[d]})
      hip::check(Runtime::malloc_for_peers(reinterpret_cast<void**>(memory), 4096), "test");
    std::memset(site.to[d], 0, 4096);
    hip::check(Runtime::StreamCreateWithFlags(&streams[d], Runtime::kNonBlocking), "test");
  }
  site.count = 2;
  const auto words = [&](int d) { return reinterpret_cast<volatile std::uint64_t*>(site.to[d]); };
  const auto launch = [&](int d, int kernels) {
    (void)Runtime::SetDevice(d);
    site.me = d;
    for (int i = 0; i < kernels; ++i)
      hip::check(Runtime::launch(gpu::Kernel::one_barrier, 1, Runtime::kWidth, streams[d], &site), "test");
  };
  launch(0, kKernels);
  launch(1, kKernels - 1);
  hip::check(Runtime::StreamSynchronize(streams[1]), "test");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(words(1)[0], static_cast<std::uint64_t>(kKernels));      // device 0 is in its last one
  EXPECT_EQ(words(0)[1], static_cast<std::uint64_t>(kKernels - 1));  // and waits for device 1
  launch(1, 1);
  for (int d = 0; d < 2; ++d) hip::check(Runtime::StreamSynchronize(streams[d]), "test");
  for (int d = 0; d < 2; ++d)
    for (int of = 0; of < 2; ++of) EXPECT_EQ(words(d)[of], static_cast<std::uint64_t>(kKernels)) << d << " of " << of;
  for (int d = 0; d < 2; ++d) {
    (void)Runtime::StreamDestroy(streams[d]);
    (void)Runtime::Free(site.from[d]), (void)Runtime::Free(site.to[d]);
  }
}

/// Device 2 of three, whose gate is open; device d has filled its rows with d + 1.
class OfThree {
 public:
  OfThree() {
    ::setenv("FAKE_HIP", "devices=3", 1);
    if (const std::string problem = Runtime::problem(); !problem.empty()) throw std::runtime_error(problem);
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
  }
  ~OfThree() {
    for (int d = 0; d < 3; ++d) (void)Runtime::Free(site.from[d]), (void)Runtime::Free(site.to[d]);
  }
  OfThree(const OfThree&) = delete;
  OfThree& operator=(const OfThree&) = delete;

  gpu::Site site{};
  gpu::Clock clock{~std::uint64_t{0}, 0};
  std::uint64_t gate = 1;
};

/// Rows go to and come from the others in turn.
TEST(Limits, RowsArriveWhereTheyShould) {
  for (const gpu::Kernel kernel : {gpu::Kernel::push, gpu::Kernel::push_short, gpu::Kernel::pull}) {
    const OfThree three;
    const gpu::Site& site = three.site;
    hip::check(Runtime::launch(kernel, 2, gpu::kMoveThreads, nullptr, &site), "test");
    const int row_bytes = kernel == gpu::Kernel::push_short ? gpu::kShortRowBytes : gpu::kRowBytes;
    for (int row = 0; row < 6 * gpu::kRowBytes / row_bytes; ++row) {
      const int peer = row % 2;  // 0, 1, 0, 1 ... as seen from device 2
      const bool pulls = kernel == gpu::Kernel::pull;
      const std::byte* at = site.to[pulls ? 2 : peer] + row * row_bytes;
      const auto wanted = static_cast<std::byte>(pulls ? peer + 1 : 3);
      EXPECT_EQ(std::count(at, at + row_bytes, wanted), row_bytes) << "row " << row;
    }
    EXPECT_GT(three.clock.end, three.clock.begin);
  }
}

/// Of its six rows device 2 sends those of each peer to a place of its own there; five rows take the same two places in turn.
TEST(Limits, APatternSendsEachPeerItsRows) {
  const OfThree three;
  const gpu::Site& site = three.site;
  for (int row = 0; row < 6; ++row) std::memset(site.from[2] + row * gpu::kRowBytes, 10 + row, gpu::kRowBytes);
  const auto arrive = [&](int to_0, int to_1, const std::vector<int>& in_0, const std::vector<int>& in_1) {
    for (int d = 0; d < 3; ++d) std::memset(site.to[d], 0, 6 * gpu::kRowBytes);
    const gpu::Pattern pattern{site, {to_0, to_1, 0}};
    hip::check(Runtime::launch(gpu::Kernel::push_pattern, 2, gpu::kMoveThreads, nullptr, &pattern), "test");
    for (int row = 0; row < 6; ++row)
      for (int d = 0; d < 3; ++d) {
        const int wanted = d == 2 ? 0 : (d == 0 ? in_0 : in_1)[static_cast<std::size_t>(row)];
        const std::byte* at = site.to[d] + row * gpu::kRowBytes;
        EXPECT_EQ(std::count(at, at + gpu::kRowBytes, static_cast<std::byte>(wanted)), gpu::kRowBytes)
            << to_0 << " and " << to_1 << " rows: row " << row << " of device " << d;
      }
  };
  arrive(5, 1, {0, 0, 0, 0, 10, 11}, {0, 0, 0, 0, 12, 0});
  arrive(1, 2, {0, 0, 0, 0, 10, 0}, {0, 0, 0, 0, 12, 13});
  arrive(0, 2, {0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 12, 13});
  arrive(0, 0, {0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0});
}

}  // namespace
}  // namespace crossdock::tools
