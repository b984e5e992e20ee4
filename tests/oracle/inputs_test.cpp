// SPDX-License-Identifier: Apache-2.0
// The generators: each routing does what its name says, formulas are deterministic, a row names its owner.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "oracle/inputs.hpp"
#include "oracle/number.hpp"

namespace crossdock::oracle {
namespace {

Case shape(int num_ranks, int num_experts, int top_k, int max_tokens_per_rank = 64) {
  Case c;
  c.num_ranks = num_ranks;
  c.num_experts = num_experts;
  c.top_k = top_k;
  c.max_tokens_per_rank = max_tokens_per_rank;
  c.hidden = 256;
  return c;
}

// The ids of one token after another.
std::vector<std::vector<std::int64_t>> tokens_of(const Case& c, Routing routing, std::uint64_t seed = 42) {
  const auto ids = make_ids(c, routing, seed, 0, c.max_tokens_per_rank);
  std::vector<std::vector<std::int64_t>> tokens;
  for (int t = 0; t < c.max_tokens_per_rank; ++t)
    tokens.emplace_back(ids.begin() + t * c.top_k, ids.begin() + (t + 1) * c.top_k);
  return tokens;
}

std::set<int> ranks_of(const Case& c, const std::vector<std::int64_t>& ids) {
  std::set<int> ranks;
  for (std::int64_t id : ids) {
    if (id >= 0 && id < c.num_experts) ranks.insert(rank_of_expert(c, id));
  }
  return ranks;
}

TEST(Routing, DistinctExperts) {
  const Case c = shape(4, 32, 8);
  for (Routing routing : {Routing::random, Routing::distinct_ranks, Routing::hot_spot, Routing::soft_hot, Routing::zipf,
                          Routing::all_to_one, Routing::idle_rank}) {
    for (const auto& ids : tokens_of(c, routing)) {
      EXPECT_EQ(std::set<std::int64_t>(ids.begin(), ids.end()).size(), 8u) << name_of(routing);
      for (std::int64_t id : ids) EXPECT_TRUE(id >= 0 && id < 32) << name_of(routing) << " " << id;
    }
  }
}

TEST(Routing, ByName) {
  for (const auto& ids : tokens_of(shape(8, 64, 8), Routing::distinct_ranks))
    EXPECT_EQ(ranks_of(shape(8, 64, 8), ids).size(), 8u);
  for (const auto& ids : tokens_of(shape(8, 64, 4), Routing::distinct_ranks))
    EXPECT_EQ(ranks_of(shape(8, 64, 4), ids).size(), 4u);
  for (const auto& ids : tokens_of(shape(2, 64, 4), Routing::distinct_ranks))
    EXPECT_EQ(ranks_of(shape(2, 64, 4), ids).size(), 2u);
  for (const auto& ids : tokens_of(shape(8, 64, 4), Routing::hot_spot))
    EXPECT_EQ(ids, (std::vector<std::int64_t>{0, 1, 2, 3}));
  for (const auto& ids : tokens_of(shape(8, 64, 4), Routing::soft_hot)) {
    EXPECT_EQ(rank_of_expert(shape(8, 64, 4), ids[0]), 0);
    EXPECT_EQ(ranks_of(shape(8, 64, 4), ids).size(), 4u);
  }
  std::set<int> all, idle;
  for (const auto& ids : tokens_of(shape(8, 64, 4), Routing::all_to_one)) all.merge(ranks_of(shape(8, 64, 4), ids));
  EXPECT_EQ(all.size(), 1u);
  for (const auto& ids : tokens_of(shape(8, 64, 4), Routing::idle_rank)) idle.merge(ranks_of(shape(8, 64, 4), ids));
  EXPECT_EQ(idle.size(), 7u);
}

TEST(Routing, Spoiled) {
  const Case c = shape(4, 32, 8, 400);
  int holes = 0, empty = 0, repeats = 0, bad = 0, wide = 0, holes_in_bad = 0;
  for (const auto& ids : tokens_of(c, Routing::holes)) {
    const auto count = std::count(ids.begin(), ids.end(), -1);
    holes += static_cast<int>(count);
    empty += count == 8 ? 1 : 0;
  }
  for (const auto& ids : tokens_of(c, Routing::duplicates))
    repeats += 8 - static_cast<int>(std::set(ids.begin(), ids.end()).size());
  for (const auto& ids : tokens_of(c, Routing::bad)) {
    for (std::int64_t id : ids) {
      bad += id < -1 || id >= 32 ? 1 : 0;
      holes_in_bad += id == -1 ? 1 : 0;
      EXPECT_EQ(id, static_cast<std::int32_t>(id));
    }
  }
  for (const auto& ids : tokens_of(c, Routing::bad64)) {
    for (std::int64_t id : ids) wide += id != static_cast<std::int32_t>(id) ? 1 : 0;
  }
  EXPECT_NEAR(holes, 3200 * (1.0 / 8 + 7.0 / 8 / 4), 150);
  EXPECT_NEAR(empty, 50, 20);
  EXPECT_NEAR(repeats, 1400, 150);
  EXPECT_NEAR(bad, 800, 100);
  EXPECT_NEAR(wide, 400, 80);
  EXPECT_EQ(holes_in_bad, 0);
}

TEST(Routing, ZipfFollowsItsLaw) {
  const Case c = shape(8, 64, 1, 20000);
  std::map<std::int64_t, int> counts;
  for (const auto& ids : tokens_of(c, Routing::zipf)) ++counts[ids[0]];
  std::vector<int> sorted;
  for (const auto& [id, count] : counts) sorted.push_back(count);
  std::sort(sorted.rbegin(), sorted.rend());
  double total = 0;
  for (int n = 1; n <= 64; ++n) total += std::pow(n, -1.2);
  EXPECT_NEAR(sorted[0], 20000 / total, 300);
  EXPECT_NEAR(sorted[3], 20000 * std::pow(4, -1.2) / total, 200);
}

// Every routing serves every shape: the right number of ids, and a pure function of its arguments.
TEST(Routing, EveryShape) {
  for (Routing routing : kRoutings) {
    for (const Case& c :
         {shape(1, 1, 1), shape(1, 4, 64), shape(8, 3, 5), shape(7, 50, 64), shape(3, 10, 8), shape(5, 9, 2)}) {
      const auto ids = make_ids(c, routing, 7, 0, 20);
      EXPECT_EQ(ids.size(), 20u * c.top_k) << name_of(routing);
      EXPECT_EQ(ids, make_ids(c, routing, 7, 0, 20)) << name_of(routing);
      EXPECT_EQ(dispatch_answer(c, make_inputs(c, {.routing = routing, .seed = 7})).size(), c.num_ranks + 0u);
    }
  }
  EXPECT_NE(make_ids(shape(4, 32, 8), Routing::random, 7, 0, 4), make_ids(shape(4, 32, 8), Routing::random, 8, 0, 4));
  EXPECT_NE(make_ids(shape(4, 32, 8), Routing::random, 7, 0, 4), make_ids(shape(4, 32, 8), Routing::random, 7, 1, 4));
}

TEST(Routing, Names) {
  for (Routing routing : kRoutings) EXPECT_EQ(routing_named(name_of(routing)), routing);
  for (Fill fill : kFills) EXPECT_EQ(fill_named(name_of(fill)), fill);
  EXPECT_FALSE(routing_named("nothing").has_value());
}

// Numbers that must never change: recorded failures are reproduced from a seed.
TEST(Inputs, Pinned) {
  const Case c = shape(4, 32, 4);
  EXPECT_EQ(make_ids(c, Routing::random, 1, 2, 1), (std::vector<std::int64_t>{19, 20, 15, 7}));
  EXPECT_EQ(make_ids(c, Routing::zipf, 1, 2, 1), (std::vector<std::int64_t>{18, 7, 17, 22}));
  EXPECT_EQ(make_ids(c, Routing::mixed, 1, 2, 1), (std::vector<std::int64_t>{19, 19, 19, 19}));
  EXPECT_EQ(token_code(Dtype::bf16, Fill::moderate, 1, 2, 3, 4), 0x3e46u);
  EXPECT_EQ(token_weight(Fill::moderate, 1, 2, 3, 4), 0x1.ce526p-1f);
  EXPECT_EQ(ragged_tokens(4, 100, 1), (std::vector<int>{33, 0, 100, 61}));
}

TEST(Inputs, RaggedHasNoneAndAll) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    for (int w = 1; w <= 8; ++w) {
      const std::vector<int> tokens = ragged_tokens(w, 17, seed);
      for (int t : tokens) EXPECT_TRUE(t >= 0 && t <= 17);
      if (w < 2) continue;
      EXPECT_GE(std::count(tokens.begin(), tokens.end(), 0), 1);
      EXPECT_GE(std::count(tokens.begin(), tokens.end(), 17), 1);
    }
  }
}

TEST(Inputs, FillsAreWhatTheySay) {
  std::set<std::uint32_t> codes;
  bool nan = false, inf = false, zero_block = false;
  for (int token = 0; token < 200; ++token) {
    bool zeros = true;
    for (int column = 0; column < 128; ++column) {
      for (Dtype dtype : {Dtype::bf16, Dtype::f16, Dtype::f32, Dtype::fp8_e4m3, Dtype::fp8_e4m3fnuz, Dtype::fp4_e2m1}) {
        const float v = std::fabs(decode(dtype, token_code(dtype, Fill::moderate, 3, 1, token, column)));
        EXPECT_TRUE(v >= 0 && v <= 4) << name_of(dtype);
        const float n = decode(dtype, token_code(dtype, Fill::integers, 3, 1, token, column));
        EXPECT_EQ(n, std::trunc(n));
      }
      codes.insert(token_code(Dtype::fp8_e4m3, Fill::all_codes, 3, 1, token, column));
      const float v = decode(Dtype::bf16, token_code(Dtype::bf16, Fill::edges, 3, 1, token, column));
      nan |= std::isnan(v);
      inf |= std::isinf(v);
      zeros &= v == 0;
    }
    zero_block |= zeros;
  }
  EXPECT_EQ(codes.size(), 256u);
  EXPECT_TRUE(nan && inf && zero_block);
}

TEST(Inputs, AWrongRowNamesItsOwner) {
  const Case c = shape(3, 9, 2, 5);
  const auto inputs = make_inputs(c, {});
  const std::int64_t row_bytes = row_bytes_of(c.dispatch_dtype, c.hidden);
  std::vector<std::uint8_t> row(inputs[2].rows.begin() + 4 * row_bytes, inputs[2].rows.begin() + 5 * row_bytes);
  EXPECT_EQ(whose_row(c, inputs, row.data()), "rank 2 token 4");
  std::copy_n(inputs[1].rows.begin() + row_bytes + 256, 256, row.begin() + 256);  // torn
  EXPECT_EQ(whose_row(c, inputs, row.data()), "bytes 0 to 255 of rank 2 token 4, bytes 256 to 511 of rank 1 token 1");
  std::fill_n(row.begin() + 256, 256, 0xcd);
  EXPECT_EQ(whose_row(c, inputs, row.data()), "bytes 0 to 255 of rank 2 token 4, no token's from byte 256");
}

TEST(Inputs, OutputsFollowTheLayout) {
  for (Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
    Case c = shape(2, 6, 3, 6);
    c.layout = layout;
    c.alignment = 8;
    const auto answers = dispatch_answer(c, make_inputs(c, {.routing = Routing::duplicates}));
    const auto rows = make_outputs(c, answers[1], 1, Fill::moderate, 5);
    const std::int64_t row_bytes = row_bytes_of(c.combine_dtype, c.hidden);
    const bool by_token = layout == Layout::token_major;
    const auto& sources = by_token ? answers[1].sources : answers[1].experts.sources;
    int filled = 0;
    for (std::int64_t row = 0; row < static_cast<std::int64_t>(rows.size()) / row_bytes; ++row) {
      if (sources[row].rank < 0) {
        EXPECT_EQ(rows[row * row_bytes], 0xff);
        continue;
      }
      ++filled;
      int x = 0;
      while (!by_token && row >= answers[1].experts.offsets[x + 1]) ++x;
      const std::uint32_t code =
          output_code(c.combine_dtype, Fill::moderate, 5, 1, sources[row], by_token ? -1 : 3 + x, 7);
      EXPECT_EQ(read_code(c.combine_dtype, &rows[row * row_bytes], 7), code);
    }
    EXPECT_GT(filled, 0);
    EXPECT_EQ(make_landings(c, answers[0], 0, Fill::moderate, 5).size(), 6u * 3 * row_bytes);
  }
}

// Every layout at identity experts with unit weights, the sum counted by hand: integers are exact in every order.
TEST(Inputs, IdentityExpertsHaveAClosedForm) {
  for (Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
    for (Routing routing : kRoutings) {
      Case c = shape(3, 8, 4, 10);
      c.layout = layout;
      c.combine_dtype = c.dispatch_dtype = Dtype::f32;
      const auto inputs =
          make_inputs(c, {.routing = routing, .fill = Fill::integers, .weights = false, .tokens = {10, 0, 7}});
      const auto answers = dispatch_answer(c, inputs);
      const std::int64_t row_bytes = row_bytes_of(Dtype::f32, c.hidden);
      std::vector<std::vector<std::uint8_t>> rows;
      for (const RankAnswer& a : answers) {
        rows.push_back(a.rows);
        if (layout == Layout::token_major) continue;
        rows.back().assign(a.experts.num_rows_max * row_bytes, 0xff);
        for (std::int64_t row = 0; row < a.experts.num_rows_max; ++row) {
          if (a.experts.slots[row] < 0) continue;
          std::copy_n(received_row(c, inputs, a.experts.sources[row]), row_bytes,
                      rows.back().begin() + row * row_bytes);
        }
      }
      const auto results = combine_answer(c, answers, {{rows[0]}, {rows[1]}, {rows[2]}});
      for (int t = 0; t < 10; ++t) {
        const std::vector<std::int64_t> ids(inputs[0].ids.begin() + t * 4, inputs[0].ids.begin() + t * 4 + 4);
        const auto valid = std::count_if(ids.begin(), ids.end(), [](std::int64_t id) { return id >= 0 && id < 8; });
        const auto ranks = static_cast<std::ptrdiff_t>(ranks_of(c, ids).size());
        const float factor = static_cast<float>(layout == Layout::token_major ? ranks : valid);
        const auto x = widen_row(Dtype::f32, &inputs[0].rows[t * row_bytes], c.hidden);
        const auto y = widen_row(Dtype::f32, &results[0].rows[t * row_bytes], c.hidden);
        for (int i = 0; i < c.hidden; ++i) ASSERT_EQ(y[i], factor * x[i]) << name_of(routing) << " " << name_of(layout);
      }
    }
  }
}

}  // namespace
}  // namespace crossdock::oracle
