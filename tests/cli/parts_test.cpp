// SPDX-License-Identifier: Apache-2.0
// The parts of `crossdock run`: above all, that its check would notice a single wrong bit.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <thread>
#include <tuple>

#include "command/flags.hpp"
#include "command/text_file.hpp"
#include "command/verbs.hpp"
#include "jobs/bench_rank.hpp"
#include "jobs/check_run.hpp"
#include "layer/dense.hpp"
#include "layer/router.hpp"
#include "oracle/number.hpp"
#include "problem/rows.hpp"
#include "problem/trace.hpp"
#include "problem/verify.hpp"
#include "ranks/ranks.hpp"
#include "ranks/shared.hpp"
#include "report/bench_record.hpp"
#include "report/timeline.hpp"

namespace crossdock::tools {
namespace {

constexpr Dtype kDtypes[] = {Dtype::bf16,     Dtype::f16,          Dtype::f32,
                             Dtype::fp8_e4m3, Dtype::fp8_e4m3fnuz, Dtype::fp4_e2m1};

TEST(Compare, every_single_bit_is_noticed_and_its_column_named) {
  constexpr std::int32_t kHidden = 32;
  for (const Dtype dtype : kDtypes) {
    std::vector<std::byte> expected(static_cast<std::size_t>(row_bytes_of(dtype, kHidden))), got;
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<std::byte>(i * 37);
    EXPECT_FALSE(first_mismatch(dtype, kHidden, 5, expected.data(), expected.data()));
    for (std::size_t bit = 0; bit < 8 * expected.size(); ++bit) {
      got = expected;
      got[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
      const auto found = first_mismatch(dtype, kHidden, 5, got.data(), expected.data());
      ASSERT_TRUE(found) << name_of(dtype) << " bit " << bit;
      EXPECT_EQ(found->token, 5);
      EXPECT_EQ(found->column, static_cast<std::int64_t>(bit) / bits_of(dtype)) << name_of(dtype) << " bit " << bit;
    }
  }
}

TEST(Compare, both_values_are_named) {
  std::vector<std::byte> got(8 * 4), expected(8 * 4);
  const float a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, b[8] = {1, 2, 3, -4, 5, 6, 7, 9};
  narrow(Dtype::f32, a, 8, got.data());
  narrow(Dtype::f32, b, 8, expected.data());
  const auto found = first_mismatch(Dtype::f32, 8, 0, got.data(), expected.data());
  ASSERT_TRUE(found);
  EXPECT_EQ(found->column, 3);
  EXPECT_EQ(found->got, 4);
  EXPECT_EQ(found->expected, -4);
}

TEST(Compare, distance_adds_up) {
  const float got[2] = {1.5f, 2};
  const double exact[2] = {1, 2};
  Distance one{}, all{};
  one.add(got, exact, 2);
  all.add(one), all.add(one);
  EXPECT_EQ(all.num_tokens, 2);
  EXPECT_EQ(all.largest, 0.5);
  EXPECT_DOUBLE_EQ(all.relative(), std::sqrt(0.5 / 10));
}

TEST(Dense, what_it_does_with_holes_and_repeated_ids) {
  const Model model({32, 8, 6, 3});
  Config config{.hidden = 32, .num_experts = 6, .top_k = 3, .dispatch_dtype = Dtype::f32, .combine_dtype = Dtype::f32};
  std::vector<float> x(32), y(32), out(32);
  model.embed('x', 0, x.data());
  const std::int32_t ids[3] = {4, -1, 4};
  const float weights[3] = {0.25f, 100.0f, 0.5f};
  const TokenInput token{reinterpret_cast<const std::byte*>(x.data()), nullptr, ids, weights};
  model.run_expert(4, x.data(), y.data());

  DenseLayer(model, config, 2).run(token, reinterpret_cast<std::byte*>(out.data()));
  for (int c = 0; c < 32; ++c) ASSERT_EQ(out[c], 0.25f * y[c] + 0.5f * y[c]) << c;  // two rows of one expert
  config.layout = Layout::expert_major;
  DenseLayer(model, config, 2).run(token, reinterpret_cast<std::byte*>(out.data()));
  for (int c = 0; c < 32; ++c) ASSERT_EQ(out[c], 0.75f * y[c]) << c;  // one row with the sum of the weights
}

TEST(Model, two_experts_are_two_functions_and_a_product_is_the_sum_of_products) {
  const Model model({40, 24, 5, 7});
  std::vector<float> x(40), one(40), other(40), logits(5);
  model.embed('a', 3, x.data());
  model.run_expert(2, x.data(), one.data());
  model.run_expert(3, x.data(), other.data());
  EXPECT_NE(std::memcmp(one.data(), other.data(), sizeof(float) * 40), 0);
  multiply(model.gate(), x.data(), logits.data());
  for (int e = 0; e < 5; ++e) {  // one panel holds all outputs
    float sum = 0;
    for (int j = 0; j < 40; ++j) {
      const float product = x[j] * model.gate().data[j * Matrix::kPanel + e];
      sum = sum + product;
    }
    EXPECT_EQ(logits[e], sum) << e;
  }
}

TEST(Rows, rounding_is_the_oracles) {
  for (const Dtype dtype : kDtypes)
    for (std::uint64_t n = 0; n < (std::uint64_t{1} << 32); n += 65537 * 8 + 1) {
      float value;
      const auto bits = static_cast<std::uint32_t>(n);
      std::memcpy(&value, &bits, sizeof value);
      const float got = rounded(dtype, value), expected = oracle::round_to(dtype, value);
      if (std::isnan(expected)) continue;
      ASSERT_EQ(std::memcmp(&got, &expected, sizeof got), 0) << name_of(dtype) << " of " << value;
    }
}

TEST(Rows, scaled_types_stay_near) {
  constexpr std::int32_t kHidden = 320;
  std::vector<float> x(kHidden), back(kHidden);
  for (int c = 0; c < kHidden; ++c) x[c] = std::ldexp(1.0f + 0.01f * static_cast<float>(c % 90), c / 64 * 9 - 20);
  for (const Dtype dtype : kDtypes) {
    if (dtype == Dtype::f16) continue;  // 2^-20 is out of its range
    std::vector<std::byte> row(static_cast<std::size_t>(row_bytes_of(dtype, kHidden))),
        scales(static_cast<std::size_t>(scale_bytes_of(dtype, kHidden)));
    pack(dtype, x.data(), kHidden, row.data(), scales.data());
    unpack(dtype, row.data(), scales.data(), kHidden, back.data());
    const ScaleRule rule = scale_rule_of(dtype);
    for (int c = 0; c < kHidden; ++c) {
      float largest = std::fabs(x[c]);
      for (int i = rule.block ? c / rule.block * rule.block : c;
           rule.block && i < std::min(kHidden, (c / rule.block + 1) * rule.block); ++i)
        largest = std::max(largest, std::fabs(x[i]));
      ASSERT_NEAR(back[c], x[c], largest * (bits_of(dtype) == 4 ? 0.26f : 0.04f)) << name_of(dtype) << " column " << c;
    }
  }
}

TEST(Router, deepseek_uses_the_best_groups_only) {
  const Model model({16, 4, 8, 1});
  const RouterShape shape = checked_router({RouterKind::deepseek, 3, 4, 2, 2.5f}, 8);
  const float logits[8] = {9, -9, 3, 3, 8, 7, 2.5f, -9};  // groups of two: 2+3 and 4+5 have the best pairs
  std::int32_t ids[3];
  float weights[3];
  route_token(shape, model, logits, ids, weights);
  for (const std::int32_t id : ids) EXPECT_TRUE(id >= 2 && id <= 5) << id;
  EXPECT_NEAR(weights[0] + weights[1] + weights[2], 2.5, 1e-5);
  EXPECT_TRUE(weights[0] > 0 && weights[1] > 0 && weights[2] > 0);
}

TEST(Router, mixtral_takes_the_largest_and_equal_ones_by_index) {
  const Model model({16, 4, 6, 1});
  const RouterShape shape = checked_router({.kind = RouterKind::mixtral, .top_k = 3}, 6);
  const float logits[6] = {0, 1, 5, 1, 1, 0};
  std::int32_t ids[3];
  float weights[3];
  route_token(shape, model, logits, ids, weights);
  EXPECT_EQ(std::vector<std::int32_t>(ids, ids + 3), (std::vector<std::int32_t>{2, 1, 3}));
  EXPECT_NEAR(weights[0] / weights[1], std::exp(4.0), 1e-3);
  EXPECT_NEAR(weights[0] + weights[1] + weights[2], 1, 1e-6);
}

TEST(Router, refuses_groups_that_do_not_fit) {
  EXPECT_THROW(checked_router({.top_k = 9}, 8), BadInput);
  EXPECT_THROW(checked_router({.top_k = 2, .num_groups = 3}, 8), BadInput);
  EXPECT_THROW(checked_router({.top_k = 2, .num_groups = 4, .top_groups = 5}, 8), BadInput);
  EXPECT_THROW(checked_router({.top_k = 5, .num_groups = 4, .top_groups = 2}, 8), BadInput);
  EXPECT_EQ(checked_router({.top_k = 8}, 8).top_groups, 8);
  EXPECT_EQ(checked_router({.top_k = 8}, 256).top_groups, 4);
}

TEST(Flags, bytes) {
  EXPECT_EQ(bytes_from("4096"), 4096u);
  EXPECT_EQ(bytes_from("24GiB"), std::uint64_t{24} << 30);
  EXPECT_EQ(bytes_from("1.5 kb"), 1500u);
  for (const char* wrong : {"", "GiB", "-1", "0", "1 furlong", "nan", "1e30"})
    EXPECT_THROW(bytes_from(wrong), BadInput) << wrong;
  EXPECT_EQ(grouped(-1234567), "-1,234,567");
  EXPECT_EQ(grouped(999), "999");
}

TEST(Ranks, one_failure_stops_all) {
  SharedArray<RankBarrier> barrier(1);
  Watch watch;
  watch.on_failure = [&] { barrier[0].stop(); };
  const auto body = [&](int rank) {
    if (rank == 2) return false;
    try {
      barrier[0].wait(3);
      return false;  // not reached: rank 2 never comes
    } catch (const Stopped&) {
      return true;
    }
  };
  for (const auto run : {run_as_threads, run_as_processes}) {
    const std::vector<Ending> endings = run(3, body, watch);
    EXPECT_EQ(endings[0].why, "");
    EXPECT_EQ(endings[1].why, "");
    EXPECT_EQ(endings[2].why, "failed");
  }
}

/// Stamps of one operation of one block: begin, phases at the given times, end.
void stamp(std::vector<TraceEvent>& to, std::uint64_t epoch, int block,
           std::initializer_list<std::pair<Phase, std::uint64_t>> phases) {
  for (const auto& [phase, time] : phases)
    to.push_back({time, epoch, static_cast<std::int16_t>(block), -1, 0, phase, false});
}
/// Block 0 has seen the signal of `peer`.
void stamp_seen(std::vector<TraceEvent>& to, std::uint64_t epoch, Phase phase, int peer, std::uint64_t time) {
  to.push_back({time, epoch, 0, static_cast<std::int16_t>(peer), 0, phase, false});
}

TEST(Timeline, clocks_are_shifted_so_that_counts_are_known_at_one_time) {
  std::vector<std::vector<TraceEvent>> events(2);
  stamp(events[0], 1, 0, {{Phase::begin, 1000}, {Phase::move, 3000}, {Phase::end, 4000}});
  stamp(events[0], 1, 1, {{Phase::begin, 1000}, {Phase::move, 3500}, {Phase::end, 5000}});
  stamp(events[1], 1, 0, {{Phase::begin, 900500}, {Phase::move, 902000}, {Phase::end, 903000}});
  const auto shifted = timeline_of(events, {.align = true, .blocks = false});
  EXPECT_EQ(shifted["otherData"]["clock_shifts_ns"][1], 3000 - 902000);
  double ends[2] = {}, begins[2] = {};
  for (const auto& e : shifted["traceEvents"])
    if (e["name"] == "dispatch")
      begins[int(e["pid"])] = e["ts"], ends[int(e["pid"])] = double(e["ts"]) + double(e["dur"]);
  EXPECT_DOUBLE_EQ(begins[0], 0);
  EXPECT_DOUBLE_EQ(begins[1], 0.5);
  EXPECT_DOUBLE_EQ(ends[0], 4);  // of the block that ends last
  EXPECT_DOUBLE_EQ(ends[1], 3);
  EXPECT_EQ(timeline_of(events, {})["otherData"]["clock_shifts_ns"][1], 0);
}

TEST(Timeline, only_operations_that_all_ranks_have_whole_are_kept) {
  std::vector<std::vector<TraceEvent>> events(2);
  for (std::uint64_t epoch = 1; epoch <= 4; ++epoch)
    for (auto& of_rank : events) stamp(of_rank, epoch, 0, {{Phase::begin, epoch * 10}, {Phase::end, epoch * 10 + 5}});
  events[1].erase(events[1].begin());  // epoch 1 has lost its begin
  events[0].pop_back();                // epoch 4 its end
  keep_last_operations(events, 3);
  EXPECT_EQ(events[0].size(), 4u);
  EXPECT_EQ(events[1].front().epoch, 2u);
  keep_last_operations(events, 1);
  EXPECT_EQ(events[0].front().epoch, 3u);
}

TEST(Timeline, signals_of_peers_are_instants_and_their_waits_have_means) {
  std::vector<std::vector<TraceEvent>> events(2);
  for (std::uint64_t epoch = 1; epoch <= 2; ++epoch)
    for (auto& of_rank : events) {
      stamp_seen(of_rank, epoch, Phase::wait_counts, 0,
                 epoch * 10000 + 900);  // by a thread that was faster than the first
      stamp(of_rank, epoch, 0,
            {{Phase::begin, epoch * 10000},
             {Phase::wait_counts, epoch * 10000 + 1000},
             {Phase::move, epoch * 10000 + 4000}});
      stamp_seen(of_rank, epoch, Phase::wait_counts, 1, epoch * 10000 + (epoch == 1 ? 2000 : 4000));
      stamp(of_rank, epoch, 0, {{Phase::end, epoch * 10000 + 5000}});
    }
  const std::vector<PeerWait> waits = peer_waits(events);
  ASSERT_EQ(waits.size(), 4u);
  EXPECT_EQ(waits[3].rank, 1);
  EXPECT_EQ(waits[3].peer, 1);
  EXPECT_EQ(waits[3].phase, Phase::wait_counts);
  EXPECT_DOUBLE_EQ(waits[2].mean_us, 0);
  EXPECT_DOUBLE_EQ(waits[3].mean_us, 2);

  std::vector<std::string> slices, instants;
  const auto timeline = timeline_of(events, {});
  for (const auto& e : timeline["traceEvents"])
    if (e["pid"] == 1 && e["ph"] != "M") (e["ph"] == "X" ? slices : instants).push_back(e["name"]);
  const std::vector<std::string> of_one{"dispatch", "begin", "wait_counts", "move"};
  EXPECT_EQ(std::vector<std::string>(slices.begin(), slices.begin() + 4), of_one) << "signals are no phases";
  EXPECT_EQ(slices.size(), 8u);
  EXPECT_EQ(instants,
            (std::vector<std::string>{"counts of rank 0", "counts of rank 1", "counts of rank 0", "counts of rank 1"}));
}

/// Problems of every layout and path, small.
std::vector<Problem> small_problems() {
  std::vector<Problem> all;
  for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous})
    for (const Path path : {Path::staged, Path::zero_copy, Path::fused}) {
      Problem p;
      p.shape.num_ranks = 2, p.shape.hidden = 64, p.shape.num_experts = 6, p.shape.top_k = 3,
      p.shape.max_tokens_per_rank = 9;
      p.shape.layout = layout, p.shape.scale_bytes = 3, p.second_result = true;
      p.path = path;
      p.tokens = {9, 4};
      if (path != Path::fused || layout == Layout::token_major) all.push_back(p);
    }
  return all;
}

/// The way of GPUs, whose memory the host reaches by copies only, walked on the CPU.
struct FarMemory : testing::Test {
  FarMemory() { treat_cpu_as_far(true); }
  ~FarMemory() override { treat_cpu_as_far(false); }
};

TEST_F(FarMemory, check_is_right_as_threads_and_processes) {
  for (const Problem& problem : small_problems())
    for (const bool processes : {false, true}) {
      CheckOptions options;
      options.processes = processes;
      options.rounds = 2;
      const Verdict verdict = check_problem(problem, options);
      EXPECT_TRUE(verdict.right) << verdict.why;
    }
}

TEST_F(FarMemory, times_are_of_right_results_only) {
  for (const Problem& problem : small_problems()) {
    const Data data(problem);
    std::vector<oracle::RankResult> expected = expected_results(data);
    const auto measurer = make_queue_measurer(open_machine(BackendKind::cpu));
    for (const Op op : {Op::dispatch, Op::combine, Op::pair, Op::replay}) {
      const tools::Run run{op, op == Op::combine ? Mode::eager : Mode::graph, {}, 3, 1};
      const Timing timing = measurer->open(data, expected)->time(run);
      EXPECT_EQ(timing.wrong, "");
      EXPECT_EQ(timing.us.size(), 3u);
    }
    expected[1].weights.back() += 1;  // the oracle says otherwise: no time counts
    const Timing wrong_weights = measurer->open(data, expected)->time({Op::pair, Mode::graph1, {}, 2, 0});
    EXPECT_NE(wrong_weights.wrong.find("combine, rank 1: weights of token 3 differ"), std::string::npos)
        << wrong_weights.wrong;
    expected[1].rows.back() ^= 1;
    const Timing wrong = measurer->open(data, expected)->time({Op::pair, Mode::graph1, {}, 2, 0});
    EXPECT_NE(wrong.wrong.find("combine, rank 1: token 3 column "), std::string::npos) << wrong.wrong;
  }
}

TEST(Accuracy, is_the_distance_from_exact_sums) {
  for (Problem p : small_problems()) {
    p.shape.combine_dtype = Dtype::f32;
    const Data data(p);
    std::vector<oracle::RankResult> results = expected_results(data);
    EXPECT_LT(relative_error(data, results), 1e-7);
    for (oracle::RankResult& result : results)
      for (std::size_t i = 0; i < result.rows.size(); i += 4) {
        float value;
        std::memcpy(&value, &result.rows[i], 4);
        value *= 1.25f;
        std::memcpy(&result.rows[i], &value, 4);
      }
    EXPECT_NEAR(relative_error(data, results), 0.25, 1e-6);
  }
}

TEST_F(FarMemory, lines_say_what_has_run) {
  const Data data(small_problems().front());
  Timing timing;
  timing.us = {3, 1, 2};
  timing.dispatch = {32, 8, 2, TuningSource::rule};
  timing.combine = {16, 8, 4, TuningSource::rule};
  for (const auto& [op, blocks, splits_per_row] :
       {std::tuple<Op, nlohmann::ordered_json, nlohmann::ordered_json>{Op::dispatch, 32, 2},
        {Op::combine, 16, 4},
        {Op::pair, "32+16", "2+4"}}) {
    const nlohmann::ordered_json line =
        to_json(record_of(data, {op, Mode::graph, {nullptr, 64, 0, 4}, 200, 2}, timing));
    EXPECT_EQ(line["repeat"], 3);  // of 200, had there been the time
    EXPECT_EQ(line["num_sms"], 64);
    EXPECT_EQ(line["launched_blocks"], blocks);
    EXPECT_EQ(line["launched_warps"], 8);
    EXPECT_EQ(line["launched_splits_per_row"], splits_per_row);
  }
}

}  // namespace
}  // namespace crossdock::tools
