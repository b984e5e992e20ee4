// SPDX-License-Identifier: Apache-2.0
// What an exchange takes of a GPU's memory: what memory_of() says.
#include <gtest/gtest.h>

#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

/// The arena is one allocation, and a driver gives whole pages of this size.
constexpr std::uint64_t kGranule = std::uint64_t{2} << 20;

/// The lines of the bill that lie on the device.
std::uint64_t device_bytes_of(const MemoryUsage& bill) {
  std::uint64_t bytes = bill.total_bytes;
  for (const RegionBytes& region : bill.regions)
    if (region.name.rfind("host.", 0) == 0) bytes -= region.bytes;
  return bytes;
}

/// As for a real model: 4096 tokens, hidden 7168, 256 experts, top-8, one in flight.
TestCase model_case() {
  TestCase test = small_case(2);
  Config& c = test.config;
  c.max_tokens_per_rank = 4096;
  c.hidden = 7168;
  c.num_experts = 256;
  c.top_k = 8;
  return test;
}

TEST(DeviceMemory, IsTakenAsTheBillSays) {
  const BackendKind backend = backend_of_tests();
  ASSERT_NE(backend, BackendKind::cpu) << "needs GPUs: CROSSDOCK_BACKEND names them";
  ASSERT_NE(device_of(backend, 0), device_of(backend, 1)) << "needs two GPUs";
  const TestCase test = model_case();
  const std::uint64_t expected = device_bytes_of(memory_of(test.config, test.num_ranks, backend));
  EXPECT_GT(expected, std::uint64_t{200} << 20);
  EXPECT_LT(expected, std::uint64_t{375} * 1000 * 1000);  // half of what four ranks may take, 0.75 GB
  Log log;
  const ThreadTeam team(test.num_ranks);
  run_threads(test.num_ranks, log, [&](int r) {
    Group group = Group::join(team, r, options_of(backend, r));
    Exchange(group, test.config).close();                 // what the driver takes once, for code and tables
    const Exchange barrier(group, small_case(2).config);  // made by all, when all have closed theirs
    const std::uint64_t before = free_device_bytes(backend);
    const Exchange exchange(group, test.config);
    const std::uint64_t after = free_device_bytes(backend), taken = before - after;
    if (before < after || taken + kGranule < expected || taken > expected + kGranule)
      log.add("rank ", r, ": ", before, " bytes were free, ", after, " are; the bill says ", expected);
  });
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace crossdock::testing
