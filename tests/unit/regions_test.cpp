// SPDX-License-Identifier: Apache-2.0
// Regions of an arena: aligned, apart from each other, inside the whole; and the bill that is made from the same list.
#include "memory/regions.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "op/shape.hpp"
#include "support/config_members.hpp"
#include "support/test_case.hpp"

namespace crossdock::memory {
namespace {

struct Extent {
  std::string name;
  std::uint64_t first, end;
};

/// Every region of every buffer set and plan of an arena.
std::vector<Extent> extents_of(const Shape& shape) {
  Arena arena = arena_of(shape);
  std::vector<Extent> all;
  const auto note = [&](std::uint64_t base) {
    return
        [&all, base](const char* name, std::uint64_t& offset, std::uint64_t element, std::uint64_t count, const char*) {
          all.push_back({name, base + offset, base + offset + element * count});
        };
  };
  for (int p = 0; p < shape.max_in_flight; ++p)
    BufferSetRegions::visit(arena.buffer_set, shape, note(arena.buffer_set_at(p, 0)));
  for (int p = 0; p < shape.num_plans; ++p) PlanRegions::visit(arena.plan, shape, note(arena.plan_at(p, 0)));
  return all;
}

std::vector<Config> some_configs() {
  std::vector<Config> configs;
  for (const testing::ConfigMember& member : testing::kConfigMembers) {
    configs.push_back(testing::base_of(member, testing::small_case().config));
    member.change(configs.back());
  }
  configs.push_back(testing::small_case().config);
  configs.back().max_in_flight = 3;
  configs.back().max_kept_plans = 5;
  return configs;
}

TEST(Regions, AreAlignedApartAndInside) {
  for (const Config& config : some_configs())
    for (const int num_ranks : {1, 2, 5, 8}) {
      if (!supports(config, num_ranks)) continue;
      const Shape shape = op::shape_of(config, num_ranks);
      std::vector<Extent> all = extents_of(shape);
      std::erase_if(all, [](const Extent& e) { return e.first == e.end; });
      std::sort(all.begin(), all.end(), [](const Extent& a, const Extent& b) { return a.first < b.first; });
      for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ(all[i].first % kRegionAlign, 0u) << all[i].name;
        if (i == 0) continue;
        EXPECT_GE(all[i].first, all[i - 1].end) << all[i].name << " over " << all[i - 1].name;
      }
      EXPECT_LE(all.back().end, arena_of(shape).total_bytes);
      EXPECT_LT(arena_of(shape).total_bytes - all.back().end, kRegionAlign);  // nothing unnamed at the end
    }
}

TEST(Regions, HaveNamesOfTheirOwnAndSayWhoWrites) {
  const Shape shape = op::shape_of(testing::small_case().config, 2);
  Arena arena = arena_of(shape);
  std::set<std::string> names;
  const auto check = [&](const char* name, std::uint64_t&, std::uint64_t, std::uint64_t, const char* content) {
    EXPECT_TRUE(names.insert(name).second) << name;
    const std::string text = content;
    EXPECT_TRUE(text.find("own") != std::string::npos || text.find("peers") != std::string::npos ||
                text.find("caller") != std::string::npos)
        << name << ": " << text;
  };
  BufferSetRegions::visit(arena.buffer_set, shape, check);
  PlanRegions::visit(arena.plan, shape, check);
}

/// Sizes that follow from the contract alone, in numbers.
TEST(Regions, HoldWhatTheConfigAsksFor) {
  testing::TestCase test = testing::small_case();
  test.config.scale_bytes = 7;
  test.config.zero_copy = true;
  test.config.combine_topk_weights = true;
  const MemoryUsage bill = memory_of(test.config, 3);
  const auto bytes = [&](const std::string& name) {
    for (const RegionBytes& region : bill.regions)
      if (region.name == name) return region.bytes;
    return std::uint64_t{0};
  };
  EXPECT_EQ(bytes("buffer_set.rows"), 3u * 8 * 256);  // W * M rows
  EXPECT_EQ(bytes("buffer_set.scales"), 3u * 8 * 7);
  EXPECT_EQ(bytes("buffer_set.combine_rows"), 3u * 8 * 256);
  EXPECT_EQ(bytes("buffer_set.combine_slots"), 8u * 2 * 256);  // M * min(k, W)
  EXPECT_EQ(bytes("buffer_set.combine_slot_weights"), 8u * 2 * 2 * 4);
  EXPECT_EQ(bytes("plan.sources"), 2u * 3 * 8 * 16);  // one buffer set and one kept plan
  EXPECT_EQ(bytes("plan.topk_ids"), 2u * 3 * 8 * 2 * 4);
  test.config.fused = true;
  EXPECT_EQ(op::shape_of(test.config, 3).combine_slots, 8 * 2);
}

TEST(Regions, TheBillAddsUp) {
  for (const Config& config : some_configs())
    for (const BackendKind backend : {BackendKind::cpu, BackendKind::cuda, BackendKind::hip}) {
      if (!supports(config, 2)) continue;
      const MemoryUsage bill = memory_of(config, 2, backend);
      std::uint64_t sum = 0;
      std::set<std::string> names;
      for (const RegionBytes& region : bill.regions) {
        sum += region.bytes;
        EXPECT_TRUE(names.insert(region.name).second) << region.name;
        EXPECT_FALSE(region.content.empty()) << region.name;
      }
      EXPECT_EQ(sum, bill.total_bytes);
      EXPECT_TRUE(names.count("rounding"));
    }
}

}  // namespace
}  // namespace crossdock::memory
