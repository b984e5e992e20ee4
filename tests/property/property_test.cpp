// SPDX-License-Identifier: Apache-2.0
// What must hold whatever the routing: nothing is lost, nothing lies on top of something else, nothing depends on time.
// These tests do not ask the oracle; they know the closed form.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "oracle/number.hpp"
#include "platform/cpu/sanitizers.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

constexpr int kSeeds = XD_ASAN || XD_TSAN ? 4 : 16;

/// A case that differs in everything with the seed.
TestCase random_case(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  TestCase test = small_case(1 + below(8));
  Config& c = test.config;
  c.hidden = 32 * (1 + below(6));
  c.num_experts = 1 + below(40);
  c.top_k = 1 + below(10);
  c.max_tokens_per_rank = 1 + below(30);
  c.layout = static_cast<Layout>(below(3));
  if (c.layout == Layout::contiguous) c.alignment = 8;
  if (below(2)) c.row_capacity = test.num_ranks + below(test.num_ranks * (c.max_tokens_per_rank - 1) + 1);
  test.recipe.routing = oracle::kRoutings[below(static_cast<int>(std::size(oracle::kRoutings)))];
  test.recipe.fill = oracle::Fill::integers;
  test.recipe.seed = seed;
  test.recipe.tokens = oracle::ragged_tokens(test.num_ranks, c.max_tokens_per_rank, seed);
  test.topk_ids_are_int64 = true;
  return test;
}

/// Distinct ranks that a token's valid ids name, by counting.
std::set<int> ranks_of_token(const TestCase& test, const std::int64_t* ids) {
  const int per_rank = (test.config.num_experts + test.num_ranks - 1) / test.num_ranks;
  std::set<int> ranks;
  for (int j = 0; j < test.config.top_k; ++j)
    if (ids[j] >= 0 && ids[j] < test.config.num_experts) ranks.insert(static_cast<int>(ids[j] / per_rank));
  return ranks;
}

struct Delivered {
  Counts counts;
  std::vector<RowSource> sources;
};

TEST(Property, RowsAreConservedAndSlotsAreInjectiveAndInBounds) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const TestCase test = random_case(seed);
    SCOPED_TRACE(text_of(test));
    const Answers inputs = answers_of(test);
    std::vector<Delivered> all(test.num_ranks);
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      Round round(test, inputs, rank.rank());
      const Received received = rank.exchange.dispatch(round.input());
      Delivered& mine = all[rank.rank()];
      copy_out(test.backend, &mine.counts, received.counts(), sizeof(Counts));
      mine.sources.resize(received.tokens().row_capacity);
      copy_out(test.backend, mine.sources.data(), received.tokens().sources, mine.sources.size() * sizeof(RowSource));
    });
    ASSERT_EQ(log.text(), "");
    std::vector<std::int64_t> sent(test.num_ranks, 0);  // rows that the ids ask for, by receiver
    for (const oracle::RankInput& in : inputs.inputs)
      for (int t = 0; t < in.num_tokens; ++t)
        for (const int d : ranks_of_token(test, &in.ids[std::int64_t{t} * test.config.top_k])) ++sent[d];
    for (int r = 0; r < test.num_ranks; ++r) {
      const Counts& counts = all[r].counts;
      std::int64_t kept = 0, dropped = 0;
      for (int s = 0; s < test.num_ranks; ++s)
        kept += counts.rows_per_source[s], dropped += counts.dropped_per_source[s];
      EXPECT_EQ(counts.rows_needed, sent[r]);
      EXPECT_EQ(kept, counts.num_rows);
      EXPECT_EQ(kept + dropped, sent[r]);
      EXPECT_LE(counts.num_rows, static_cast<std::int64_t>(all[r].sources.size()));
      std::pair<int, int> before{-1, -1};
      for (std::int64_t row = 0; row < counts.num_rows; ++row) {
        const RowSource& s = all[r].sources[row];
        const std::pair<int, int> now{s.rank, s.token};
        EXPECT_LT(before, now) << "row " << row << " of rank " << r << ": order, or a token twice";
        ASSERT_TRUE(s.rank < test.num_ranks && s.token < inputs.inputs[s.rank].num_tokens);
        EXPECT_TRUE(
            ranks_of_token(test, &inputs.inputs[s.rank].ids[std::int64_t{s.token} * test.config.top_k]).count(r));
        before = now;
      }
    }
    std::set<std::pair<int, int>> landing;  // (home, combine slot): no two rows of the group come home to one place
    for (int r = 0; r < test.num_ranks; ++r)
      for (std::int64_t row = 0; row < all[r].counts.num_rows; ++row) {
        const RowSource& s = all[r].sources[row];
        EXPECT_TRUE(landing.insert({s.rank, s.combine_slot}).second);
        EXPECT_LT(s.combine_slot, test.config.max_tokens_per_rank * std::min(test.config.top_k, test.num_ranks));
      }
  }
}

/// Experts that give back what they got: token-major, the token comes home once per rank that kept it.
TEST(Property, IdentityExpertsGiveTheTokenTimesItsRanks) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    TestCase test = random_case(seed);
    test.config.row_capacity = 0;
    test.config.layout = Layout::token_major;
    test.config.alignment = 1;
    test.config.combine_topk_weights = true;
    SCOPED_TRACE(text_of(test));
    const int hidden = test.config.hidden, k = test.config.top_k;
    const Answers inputs = answers_of(test);
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      Round round(test, inputs, rank.rank());
      const oracle::RankInput& in = inputs.inputs[rank.rank()];
      Received received = rank.exchange.dispatch(round.input());
      rank.exchange.clear_status();
      CombineInput from;
      from.rows = received.tokens().rows;
      from.combine_topk_weights = true;
      std::vector<std::uint8_t> out(in.num_tokens * hidden * 2);
      std::vector<float> weights(in.num_tokens * k);
      const Buffer rows(test.backend, out.size()), sums(test.backend, weights.size() * 4);
      rank.exchange.combine(std::move(received), from, {rows.data(), sums.as<float>()});
      copy_out(test.backend, out.data(), rows.data(), out.size());
      copy_out(test.backend, weights.data(), sums.data(), weights.size() * 4);
      for (int t = 0; t < in.num_tokens; ++t) {
        const float times = static_cast<float>(ranks_of_token(test, &in.ids[t * k]).size());
        const auto x = oracle::widen_row(Dtype::bf16, &in.rows[t * hidden * 2], hidden);
        const auto y = oracle::widen_row(Dtype::bf16, &out[t * hidden * 2], hidden);
        for (int i = 0; i < hidden; ++i)
          if (y[i] != times * x[i])
            return rank.log.add("token ", t, "[", i, "] = ", y[i], ", not ", times, " * ", x[i]);
        for (int j = 0; j < k; ++j) {  // w added `times` times
          float sum = 0.0f;
          for (int n = 0; n < times; ++n) sum += in.weights[t * k + j];
          if (weights[t * k + j] != sum) return rank.log.add("weight ", t, "[", j, "] = ", weights[t * k + j]);
        }
      }
    });
    EXPECT_EQ(log.text(), "");
  }
}

/// Expert layouts: each rank sends the token times the sum of its experts' weights. Weights are eighths, values small
/// integers, so every order of sums gives the same number, exactly.
TEST(Property, IdentityExpertsByExpertGiveTheTokenTimesItsWeights) {
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    TestCase test = random_case(seed);
    test.config.row_capacity = 0;
    test.config.layout = seed % 2 ? Layout::expert_major : Layout::contiguous;
    test.config.alignment = 1;
    test.config.dispatch_dtype = test.config.combine_dtype = Dtype::f32;
    SCOPED_TRACE(text_of(test));
    const int hidden = test.config.hidden, k = test.config.top_k;
    std::vector<oracle::RankInput> given = answers_of(test).inputs;
    for (oracle::RankInput& in : given)
      for (std::size_t i = 0; i < in.weights.size(); ++i) in.weights[i] = static_cast<float>(i % 16) / 8.0f;
    const Answers inputs = answers_to(test, given);
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      Round round(test, inputs, rank.rank());
      const oracle::RankInput& in = inputs.inputs[rank.rank()];
      Received received = rank.exchange.dispatch(round.input());
      rank.exchange.clear_status();
      CombineInput from;
      from.rows = received.experts().rows;
      std::vector<float> out(in.num_tokens * hidden);
      const Buffer rows(test.backend, out.size() * 4);
      rank.exchange.combine(std::move(received), from, {rows.data(), nullptr});
      copy_out(test.backend, out.data(), rows.data(), out.size() * 4);
      for (int t = 0; t < in.num_tokens; ++t) {
        float weight = 0.0f;
        for (int j = 0; j < k; ++j) {
          const std::int64_t id = in.ids[t * k + j];
          if (id >= 0 && id < test.config.num_experts) weight += in.weights[t * k + j];
        }
        const auto x = oracle::widen_row(Dtype::f32, &in.rows[t * hidden * 4], hidden);
        for (int i = 0; i < hidden; ++i)
          if (out[t * hidden + i] != weight * x[i])
            return rank.log.add("token ", t, "[", i, "] = ", out[t * hidden + i], ", not ", weight, " * ", x[i]);
      }
    });
    EXPECT_EQ(log.text(), "");
  }
}

/// All bytes that a caller can see after dispatch and combine, as one number per rank.
std::vector<std::size_t> fingerprints(const TestCase& test, const Answers& inputs, std::uint64_t skew) {
  std::vector<std::size_t> prints(test.num_ranks);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    std::mt19937_64 random(skew * 8 + static_cast<unsigned>(rank.rank()));
    const auto wait = [&] {
      if (skew > 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    };
    std::string bytes;
    const auto see = [&](const void* p, std::int64_t n) {
      bytes.resize(bytes.size() + static_cast<std::size_t>(n));
      copy_out(test.backend, bytes.data() + bytes.size() - n, p, n);
    };
    for (int again = 0; again < 2; ++again) {
      Round round(test, inputs, rank.rank());
      wait();
      Received received = rank.exchange.dispatch(round.input());
      rank.exchange.clear_status();
      const View v = view_of(received);
      Counts counts{};
      copy_out(test.backend, &counts, v.counts, sizeof counts);
      see(v.counts, sizeof counts);
      see(v.tokens.sources, counts.num_rows * 16);
      see(v.tokens.topk_ids, v.tokens.row_capacity * test.config.top_k * 4);
      see(v.tokens.topk_weights, v.tokens.row_capacity * test.config.top_k * 4);
      see(v.tokens.rows, counts.num_rows * test.config.hidden * 2);
      if (received.has_experts())
        see(v.experts.weights, v.experts.num_rows_max * 4), see(v.experts.sources, v.experts.num_rows_max * 4);
      wait();
      rank.combine(std::move(received), round.run_experts(received), round.output());
      if (round.output().rows)
        see(round.output().rows, inputs.received[rank.rank()].num_tokens * test.config.hidden * 2);
    }
    prints[rank.rank()] = std::hash<std::string>{}(bytes);
  });
  EXPECT_EQ(log.text(), "");
  return prints;
}

TEST(Property, ResultsDoNotDependOnTimeOrGeometry) {
  for (std::uint64_t seed = 1; seed <= kSeeds / 2; ++seed) {
    TestCase test = random_case(seed);
    test.recipe.fill = oracle::Fill::moderate;  // sums that differ when their order does
    SCOPED_TRACE(text_of(test));
    const Answers inputs = answers_of(test);
    const std::vector<std::size_t> first = fingerprints(test, inputs, 0);
    for (const std::uint64_t skew : {1, 2}) EXPECT_EQ(fingerprints(test, inputs, skew), first) << "skew " << skew;
    if (test.backend != BackendKind::cpu) continue;  // fibers are the CPU's
    test.executor = {.width = 32, .num_blocks = 1 + static_cast<int>(seed) % 5, .num_threads = 64, .seed = seed};
    EXPECT_EQ(fingerprints(test, inputs, 0), first) << "32 lanes";
    test.executor = {.width = 64, .num_blocks = 2, .num_threads = 128, .splits_per_row = 2, .seed = seed};
    EXPECT_EQ(fingerprints(test, inputs, 0), first) << "64 lanes";
  }
}

}  // namespace
}  // namespace crossdock::testing
