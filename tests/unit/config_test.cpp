// SPDX-License-Identifier: Apache-2.0
// What a config may be: every limit from both sides, with the words of its refusal.
#include "crossdock/config.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "crossdock/error.hpp"
#include "op/shape.hpp"
#include "support/config_members.hpp"
#include "support/test_case.hpp"

namespace crossdock {
namespace {

using testing::ConfigMember;
using testing::kConfigMembers;

Config base() { return testing::small_case().config; }

/// Part of the reason that `change` must give; empty: it must be accepted.
void check(const std::string& reason, void (*change)(Config&), int num_ranks = 2) {
  Config config = base();
  change(config);
  const Support support = supports(config, num_ranks);
  EXPECT_EQ(support.ok, reason.empty()) << support.reason << " / expected: " << reason;
  EXPECT_EQ(support.ok, support.reason.empty());
  EXPECT_NE(support.reason.find(reason), std::string::npos) << support.reason << " / expected: " << reason;
  if (support.ok) {
    EXPECT_GT(memory_of(config, num_ranks).total_bytes, 0u);
    return;
  }
  try {
    memory_of(config, num_ranks);
    ADD_FAILURE() << "memory_of() took it";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find(support.reason), std::string::npos);
  }
}

TEST(Config, Sizes) {
  check("", [](Config&) {});
  check("hidden = 0", [](Config& c) { c.hidden = 0; });
  check("hidden = -128", [](Config& c) { c.hidden = -128; });
  check("hidden = 16777217", [](Config& c) { c.hidden = (1 << 24) + 1; });
  check("", [](Config& c) { c.hidden = 1 << 24, c.max_tokens_per_rank = 1; });
  check("num_experts = 0; must be 1 to 2^20", [](Config& c) { c.num_experts = 0; });
  check("num_experts = 1048577", [](Config& c) { c.num_experts = (1 << 20) + 1; });
  check("", [](Config& c) { c.num_experts = 1 << 20; });
  check("top_k = 0; must be 1 to 64", [](Config& c) { c.top_k = 0; });
  check("top_k = 65", [](Config& c) { c.top_k = 65; });
  check("", [](Config& c) { c.top_k = 64; });
  check("max_tokens_per_rank = 0", [](Config& c) { c.max_tokens_per_rank = 0; });
  check("max_tokens_per_rank = 16777216; must be 1 to 2^24 - 1", [](Config& c) { c.max_tokens_per_rank = 1 << 24; });
  check("", [](Config& c) { c.max_tokens_per_rank = (1 << 24) - 1; });
  check("scale_bytes = -1", [](Config& c) { c.scale_bytes = -1; });
  check("scale_bytes = 65537; must be 0 to 65536", [](Config& c) { c.scale_bytes = 65537; });
  check("", [](Config& c) { c.scale_bytes = 65536; });
  check("max_in_flight = 0; must be 1 to 16", [](Config& c) { c.max_in_flight = 0; });
  check("max_in_flight = 17", [](Config& c) { c.max_in_flight = 17; });
  check("max_kept_plans = -1; must be 0 to 64", [](Config& c) { c.max_kept_plans = -1; });
  check("max_kept_plans = 65", [](Config& c) { c.max_kept_plans = 65; });
  check("trace_events = -1", [](Config& c) { c.trace_events = -1; });
  check("trace_events = 1048577", [](Config& c) { c.trace_events = (1 << 20) + 1; });
  check(
      "num_ranks = 0; a group has 1 to 8", [](Config&) {}, 0);
  check(
      "num_ranks = 9", [](Config&) {}, 9);
}

TEST(Config, RowsOf16Bytes) {
  check("hidden = 129 makes bf16 rows of 258 bytes; rows must be multiples of 16 bytes. Nearest sizes: 128 and 136",
        [](Config& c) { c.hidden = 129; });
  check("fp4_e2m1 rows of 68 bytes", [](Config& c) { c.hidden = 136, c.combine_dtype = Dtype::fp4_e2m1; });
  check("Nearest sizes: 128 and 160", [](Config& c) { c.hidden = 136, c.combine_dtype = Dtype::fp4_e2m1; });
  check("Nearest sizes: 8 and 16", [](Config& c) { c.hidden = 9; });
  check("Nearest sizes: 8 and 8", [](Config& c) { c.hidden = 1; });
  for (const Dtype dtype : {Dtype::bf16, Dtype::f16, Dtype::f32, Dtype::fp8_e4m3, Dtype::fp8_e4m3fnuz, Dtype::fp4_e2m1})
    for (int hidden = 1; hidden < 300; ++hidden) {
      Config config = base();
      config.hidden = hidden;
      config.dispatch_dtype = config.combine_dtype = dtype;
      ASSERT_EQ(supports(config, 2).ok, hidden * bits_of(dtype) % 128 == 0) << name_of(dtype) << " " << hidden;
      const NearHidden near = near_hidden(config);
      for (const int size : {near.below, near.above}) {
        Config nearby = config;
        nearby.hidden = size;
        ASSERT_TRUE(supports(nearby, 2)) << name_of(dtype) << " " << hidden << " near " << size;
      }
      ASSERT_GE(near.above, hidden);
    }
}

TEST(Config, Capacities) {
  check("row_capacity = 1; must be 2 (num_ranks) to 16 (num_ranks * max_tokens_per_rank)",
        [](Config& c) { c.row_capacity = 1; });
  check("row_capacity = 17", [](Config& c) { c.row_capacity = 17; });
  check("row_capacity = -3", [](Config& c) { c.row_capacity = -3; });
  check("", [](Config& c) { c.row_capacity = 2; });
  check("", [](Config& c) { c.row_capacity = 16; });
  check("expert_capacity = -1", [](Config& c) { c.layout = Layout::expert_major, c.expert_capacity = -1; });
  check("expert_capacity = 4 with layout token_major", [](Config& c) { c.expert_capacity = 4; });
  check("", [](Config& c) { c.layout = Layout::expert_major, c.expert_capacity = 4; });
  check("", [](Config& c) { c.layout = Layout::contiguous, c.expert_capacity = 1; });
  check("alignment = 4; must be 1, 8, 16, 32 or 128",
        [](Config& c) { c.layout = Layout::contiguous, c.alignment = 4; });
  check("alignment = 0", [](Config& c) { c.alignment = 0; });
  check("alignment = 8 with layout expert_major", [](Config& c) { c.layout = Layout::expert_major, c.alignment = 8; });
  check("zero_padding with layout token_major", [](Config& c) { c.zero_padding = true; });
  for (const int alignment : {1, 8, 16, 32, 128}) {
    Config config = base();
    config.layout = Layout::contiguous;
    config.alignment = alignment;
    EXPECT_TRUE(supports(config, 2));
  }
  check("rows, 2^31 or more", [](Config& c) {
    c.layout = Layout::expert_major, c.num_experts = 1024, c.max_tokens_per_rank = (1 << 24) - 1;
  });
  check("2^31", [](Config& c) {
    c.layout = Layout::expert_major, c.expert_capacity = std::numeric_limits<std::int64_t>::max();
  });
  check("2^31",
        [](Config& c) { c.layout = Layout::contiguous, c.expert_capacity = std::numeric_limits<std::int64_t>::max(); });
}

TEST(Config, WiresAndPaths) {
  for (const Dtype dtype : {Dtype::f32, Dtype::fp8_e4m3, Dtype::fp8_e4m3fnuz, Dtype::fp4_e2m1}) {
    Config config = base();
    config.combine_quant = CombineQuant::fp8_blockwise;
    config.combine_dtype = dtype;
    EXPECT_NE(supports(config, 2).reason.find("combine_quant fp8_blockwise with combine_dtype " +
                                              std::string(name_of(dtype))),
              std::string::npos);
  }
  check("combine_quant fp8_direct_cast with zero_copy",
        [](Config& c) { c.combine_quant = CombineQuant::fp8_direct_cast, c.zero_copy = true; });
  check("combine_quant fp8_blockwise with fused",
        [](Config& c) { c.combine_quant = CombineQuant::fp8_blockwise, c.fused = true; });
  check("fused with layout contiguous", [](Config& c) { c.layout = Layout::contiguous, c.fused = true; });
  check("", [](Config& c) { c.fused = true, c.zero_copy = true; });
}

/// Enumerators that do not exist, as a binding may pass them.
TEST(Config, EnumeratorsThatDoNotExist) {
  check("dispatch_dtype = 6", [](Config& c) { c.dispatch_dtype = static_cast<Dtype>(6); });
  check("combine_dtype = 255", [](Config& c) { c.combine_dtype = static_cast<Dtype>(255); });
  check("combine_quant = 3", [](Config& c) { c.combine_quant = static_cast<CombineQuant>(3); });
  check("layout = 3", [](Config& c) { c.layout = static_cast<Layout>(3); });
  check("overflow = 2", [](Config& c) { c.overflow = static_cast<Overflow>(2); });
}

std::set<std::string> members_in_header() {
  std::ifstream header(CROSSDOCK_SOURCE_DIR "/include/crossdock/config.hpp");
  std::set<std::string> names;
  bool inside = false;
  for (std::string line; std::getline(header, line);) {
    if (line.rfind("struct Config {", 0) == 0) inside = true;
    if (inside && line.rfind("};", 0) == 0) break;
    const std::size_t equals = line.find(" = ");
    if (!inside || equals == std::string::npos || line.find("operator") != std::string::npos) continue;
    const std::size_t blank = line.rfind(' ', equals - 1);
    names.insert(line.substr(blank + 1, equals - blank - 1));
  }
  return names;
}

TEST(Config, EveryMemberIsKnownToTheTestsAndNamedWhereItDiffers) {
  std::set<std::string> known;
  for (const ConfigMember& member : kConfigMembers) {
    known.insert(member.name);
    const Config mine = testing::base_of(member, base());
    Config theirs = mine;
    member.change(theirs);
    EXPECT_FALSE(mine == theirs) << member.name;
    const std::string text = op::difference(mine, theirs);
    EXPECT_EQ(text.rfind(std::string(member.name) + " = ", 0), 0u) << text;
    EXPECT_TRUE(supports(theirs, 2)) << member.name;
  }
  EXPECT_EQ(known, members_in_header());
  EXPECT_EQ(op::difference(base(), base()), "");
}

/// The package has no list of the library's to walk: it sees public headers only.
TEST(Config, EveryMemberIsInThePythonBinding) {
  std::ifstream file(CROSSDOCK_SOURCE_DIR "/python/binding/config.cpp");
  const std::string binding(std::istreambuf_iterator<char>(file), {});
  for (const ConfigMember& member : kConfigMembers) {
    const std::string name = member.name;
    EXPECT_NE(binding.find("v(\"" + name + "\", &Config::" + name), std::string::npos) << name << " in visit()";
    EXPECT_NE(binding.find(name + ": "), std::string::npos) << name << " in the signature";
  }
}

/// Worst cases are large enough: a call that fills everything drops nothing.
TEST(Config, WorstCaseCapacities) {
  Config config = base();
  config.layout = Layout::contiguous;
  for (const int alignment : {1, 8, 128})
    for (const int top_k : {1, 3, 8})
      for (const int num_ranks : {1, 3, 8}) {
        config.alignment = alignment;
        config.top_k = top_k;
        const Shape shape = op::shape_of(config, num_ranks);
        const std::int64_t local = shape.experts_per_rank, rows = std::int64_t{num_ranks} * config.max_tokens_per_rank;
        // Pairs spread so that padding is worst: one row more than a multiple of the alignment wherever it can be.
        const std::int64_t pairs = rows * std::min<std::int64_t>(top_k, local);
        EXPECT_GE(shape.expert_capacity, pairs + std::min(local, pairs) * (alignment - 1) - (alignment - 1));
        EXPECT_EQ(shape.expert_capacity % alignment, 0);
      }
}

}  // namespace
}  // namespace crossdock
