// SPDX-License-Identifier: Apache-2.0
// A hundred times a group, an exchange, a round, and their end: no memory of the device, no descriptor, no name is left.
#include <gtest/gtest.h>

#include <filesystem>

#include "support/harness.hpp"
#include "support/processes.hpp"

namespace crossdock::testing {
namespace {

constexpr int kCycles = 100, kWarmUp = 5;
/// Of the driver's own; an allocation of the least size, 2 MiB, leaked in each cycle would be fifty times that.
constexpr std::uint64_t kNoise = std::uint64_t{4} << 20;

int open_files() {
  int count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

TestCase cycle_case(int ranks) {
  TestCase test = small_case(ranks);
  test.config.hidden = 2048;
  test.config.max_tokens_per_rank = 256;  // some megabytes an arena
  test.recipe.tokens = {3, 8};
  test.recipe.tokens.resize(static_cast<std::size_t>(ranks), 5);
  return test;
}

TEST(Cycles, OfThreads) {
  const TestCase test = cycle_case(2);
  const Answers answers = answers_of(test);
  int files = 0;
  std::uint64_t free = 0;
  for (int cycle = 0; cycle < kCycles + kWarmUp; ++cycle) {
    if (cycle == kWarmUp) files = open_files(), free = free_device_bytes(test.backend);
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      rank.run(answers);
      if (cycle % 2) rank.exchange.close(), rank.group.close();
    });
    ASSERT_EQ(log.text(), "");
  }
  EXPECT_EQ(open_files(), files);
  const std::uint64_t now = free_device_bytes(test.backend);
  EXPECT_LT(free > now ? free - now : 0, kNoise);
}

TEST(Cycles, OfProcesses) {
  const RuntimeDir dir;
  const TestCase test = cycle_case(2);
  const Answers answers = answers_of(test);
  const std::string name = unique_name();
  const auto reports = run_processes(2, [&](int r) -> std::string {
    use_device(test.backend, r);
    int files = 0;
    std::uint64_t free = 0;
    Log log;
    for (int cycle = 0; cycle < kCycles + kWarmUp && log.empty(); ++cycle) {
      if (cycle == kWarmUp) files = open_files(), free = free_device_bytes(test.backend);
      Rank rank(test, Group::rendezvous(name + std::to_string(cycle), r, 2, options_of(test.backend, r)), log);
      rank.run(answers);
    }
    if (open_files() != files) log.add(open_files(), " files are open, ", files, " were");
    // The other process may be a cycle behind and hold on to what it has mapped of this one.
    const std::uint64_t now = free_device_bytes(test.backend), leak = free > now ? free - now : 0;
    if (leak > 16 * kNoise) log.add(leak, " bytes of the device are gone");
    return log.text();
  });
  for (const ProcessReport& report : reports) EXPECT_EQ(report.text, "");
  int names = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path())) names += !entry.is_directory();
  EXPECT_EQ(names, 0);
}

}  // namespace
}  // namespace crossdock::testing
