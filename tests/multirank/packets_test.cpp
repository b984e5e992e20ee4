// SPDX-License-Identifier: Apache-2.0
// Small batches whose rows go in packets: the same answers, through every kind of batch, geometry and order of calls.
#include <gtest/gtest.h>

#include <cstdlib>

#include "platform/cpu/sanitizers.hpp"
#include "support/harness.hpp"
#include "support/processes.hpp"
#include "support/script.hpp"

namespace crossdock::testing {
namespace {

constexpr bool kSlow = XD_ASAN || XD_TSAN;
constexpr const char* kVariable = "CROSSDOCK_PACKET_TOKENS";

class LlPackets : public ::testing::Test {
 protected:
  LlPackets() { ::setenv(kVariable, "32", 1); }
  ~LlPackets() override { ::unsetenv(kVariable); }
};

TestCase packet_case(int num_ranks, std::uint64_t seed = 1) {
  TestCase test = small_case(num_ranks);
  test.config.hidden = 160;  // a part of a row that is not full
  test.config.max_tokens_per_rank = 11;
  test.recipe.seed = seed;
  test.recipe.tokens = oracle::ragged_tokens(num_ranks, test.config.max_tokens_per_rank, seed);
  test.rounds = 3;
  return test;
}

std::uint64_t bytes_of_region(const MemoryUsage& memory, std::string_view name) {
  for (const RegionBytes& region : memory.regions)
    if (region.name == name) return region.bytes;
  return 0;
}

TEST_F(LlPackets, AreInTheBill) {
  TestCase test = small_case(4);
  test.config.max_tokens_per_rank = 8;
  test.config.hidden =
      256;  // rows of 32 units: one part of the widest warp, 256 packets; 5 words beside them, 2 packets
  const MemoryUsage memory = memory_of(test.config, 4);
  EXPECT_EQ(bytes_of_region(memory, "buffer_set.ll_packets"), 2u * 4 * 8 * (256 + 2) * 16);
  EXPECT_EQ(bytes_of_region(memory, "buffer_set.mask_words"), 2u * 4 * 5 * 8);
  Config others[] = {test.config, test.config, test.config};
  others[0].max_tokens_per_rank = 33;
  others[1].layout = Layout::expert_major;
  others[2].scale_bytes = 7;
  for (const Config& other : others) EXPECT_EQ(bytes_of_region(memory_of(other, 4), "buffer_set.ll_packets"), 0u);
  ::unsetenv(kVariable);
  EXPECT_EQ(bytes_of_region(memory_of(test.config, 4), "buffer_set.ll_packets"), 0u);
}

TEST_F(LlPackets, AVariableThatIsNoNumberOfTokensIsRefused) {
  for (const char* value : {"33", "-1", "8 ", "all"}) {
    ::setenv(kVariable, value, 1);
    try {
      memory_of(small_case().config, 2);
      ADD_FAILURE() << value;
    } catch (const ConfigError& error) {
      EXPECT_EQ(error.what(),
                "memory_of: " + std::string(kVariable) + " = `" + value + "`; must be a number of tokens, 0 to 32");
    }
  }
}

TEST(Processes, ThatDifferInTheirPacketsAreTold) {
  const RuntimeDir dir;
  const std::string name = unique_name();
  const auto reports = run_processes(2, [&](int r) {
    ::setenv(kVariable, r == 0 ? "32" : "0", 1);
    const Group group = Group::rendezvous(name, r, 2, options_of(BackendKind::cpu, r));
    try {
      const Exchange exchange(group, small_case().config);
    } catch (const ConfigError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  });
  for (int r = 0; r < 2; ++r)
    EXPECT_EQ(reports[r].text, "Exchange on rank " + std::to_string(r) + ": rank " + std::to_string(1 - r) +
                                   " has another CROSSDOCK_PACKET_TOKENS; give every rank the same");
}

/// A bad value on one rank is an error on both, at once: the rank that has it meets the others all the same.
TEST(Processes, ThatHaveABadVariableAreToldAtOnce) {
  const RuntimeDir dir;
  for (const char* variable : {kVariable, "CROSSDOCK_DEADLINE_MS", "CROSSDOCK_BACKEND"}) {
    const std::string name = unique_name();
    const auto reports = run_processes(2, [&](int r) {
      if (r == 0) ::setenv(variable, "many", 1);
      GroupOptions options;
      if (variable == kVariable) options = options_of(BackendKind::cpu, r);
      const auto began = std::chrono::steady_clock::now();
      std::string said = "no error";
      try {
        const Group group = Group::rendezvous(name, r, 2, options);
        const Exchange exchange(group, small_case().config);
      } catch (const ConfigError& error) {
        said = error.what();
      }
      const bool late = std::chrono::steady_clock::now() - began > std::chrono::seconds(10);
      return late ? "late: " + said : said;
    });
    for (int r = 0; r < 2; ++r) {
      const std::string told = reports[r].text;
      const bool names_it = told.find(std::string(variable) + " = `many`") != std::string::npos;
      EXPECT_TRUE(names_it || (r == 1 && told.find("rank 0 refused its config") != std::string::npos)) << told;
      EXPECT_EQ(told.find("late"), std::string::npos) << told;
    }
  }
}

TEST_F(LlPackets, EveryRoutingAndNumberOfRanks) {
  for (const oracle::Routing routing : oracle::kRoutings)
    for (const int ranks : {1, 2, 3, 8}) {
      TestCase test = packet_case(ranks, static_cast<std::uint64_t>(ranks));
      test.config.top_k = 5;
      test.recipe.routing = routing;
      test.topk_ids_are_int64 = ranks == 2 || routing == oracle::Routing::bad64;
      ASSERT_EQ(run_case(test), "");
    }
}

TEST_F(LlPackets, EveryDtypeWithScalesWeightsAndCapacities) {
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32, Dtype::fp8_e4m3, Dtype::fp4_e2m1})
    for (const int scale_bytes : {0, 4, 212})
      for (const std::int64_t capacity : {0, 9}) {
        TestCase test = packet_case(3, static_cast<std::uint64_t>(scale_bytes));
        test.config.dispatch_dtype = dtype;
        if (dtype == Dtype::bf16) {  // few enough that combine does not pull
          test.config.max_tokens_per_rank = 8;
          test.recipe.tokens = oracle::ragged_tokens(test.num_ranks, 8, 1);
        }
        test.config.scale_bytes = scale_bytes;
        test.config.row_capacity = capacity;
        test.config.combine_topk_weights = test.combine_topk_weights = scale_bytes != 0;
        test.recipe.weights = scale_bytes != 4;
        test.device_tokens = capacity != 0;
        set_path(test.config, static_cast<Path>(scale_bytes % 3));
        ASSERT_EQ(run_case(test), "");
      }
}

TEST_F(LlPackets, OnFibersOfEveryGeometry) {
  for (const int width : {32, 64})
    for (const int blocks : {1, 2, 3, 6})
      for (const int warps : {1, 3}) {
        TestCase test = packet_case(kSlow ? 2 : 3, static_cast<std::uint64_t>(blocks));
        test.config.hidden = 800;  // two parts by 32 lanes, the second not full
        test.config.max_tokens_per_rank = blocks == 3 && warps == 3 && !kSlow ? 32 : 9;
        test.config.top_k = 4;
        test.rounds = 2;
        test.config.scale_bytes = 16;
        test.recipe.routing = oracle::Routing::mixed;
        test.recipe.tokens.assign(static_cast<std::size_t>(test.num_ranks), test.config.max_tokens_per_rank);
        test.executor = {
            .width = width, .num_blocks = blocks, .num_threads = width * warps, .splits_per_row = 3, .seed = 7};
        ASSERT_EQ(run_case(test), "");
      }
}

TEST_F(LlPackets, InAnyOrderOfCalls) {
  for (std::uint64_t seed = 1; seed <= (kSlow ? 3 : 10); ++seed) {
    TestCase test = packet_case(3, seed);
    test.config.max_in_flight = 2;
    test.config.max_kept_plans = 2;
    test.config.zero_copy = seed % 2 == 0;
    test.rounds = 1;
    ASSERT_EQ(run_script(test, random_script(test, seed, kSlow ? 15 : 40), seed % 3 != 0), "");
  }
}

/// Dispatches that nobody combines follow one another: slots and masks of both parities are used again at once.
TEST_F(LlPackets, DispatchBehindDispatch) {
  std::vector<Step> script;
  for (std::uint64_t n = 1; n <= 40; ++n) {
    script.push_back({.what = Do::dispatch, .routing = n});
    script.push_back({.what = Do::drop_received});
  }
  TestCase test = packet_case(3);
  test.rounds = 1;
  EXPECT_EQ(run_script(test, script, true), "");
  EXPECT_EQ(run_script(test, script, false), "");
}

}  // namespace
}  // namespace crossdock::testing
