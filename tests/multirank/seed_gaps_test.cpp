// SPDX-License-Identifier: Apache-2.0
// What an earlier implementation of the same operators got silently wrong, one test each, numbered as in its list.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <thread>

#include "oracle/number.hpp"
#include "platform/cpu/sanitizers.hpp"
#include "support/harness.hpp"
#include "support/instances.hpp"

namespace crossdock::testing {
namespace {

/// Inputs whose ids the test writes: id(rank, token, j).
template <class Id>
Answers with_ids(const TestCase& test, Id&& id) {
  std::vector<oracle::RankInput> inputs = answers_of(test).inputs;
  for (int r = 0; r < test.num_ranks; ++r)
    for (int t = 0; t < inputs[r].num_tokens; ++t)
      for (int j = 0; j < test.config.top_k; ++j) inputs[r].ids[t * test.config.top_k + j] = id(r, t, j);
  return answers_to(test, inputs);
}

void run_rounds(const TestCase& test, const std::vector<const Answers*>& rounds) {
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    for (const Answers* answers : rounds) rank.run(*answers);
  });
  EXPECT_EQ(log.text(), "") << text_of(test);
}

/// 1. The second result counts each distinct rank that kept the row once, not each id; more ranks than ids.
TEST(SeedGaps, T01_SecondResultWithDuplicateAndDroppedRanks) {
  TestCase test = small_case(4);
  test.config.top_k = 3;
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  const Answers same_rank = with_ids(test, [](int, int t, int j) { return t % 2 ? j % 2 : 2 + t % 6; });
  run_rounds(test, {&same_rank, &same_rank});
  for (int t = 0; t < 8; ++t)  // all ids of a token on one rank: its own weights, once
    for (int j = 0; j < 3; ++j)
      EXPECT_EQ(same_rank.results[1].weights[t * 3 + j], same_rank.inputs[1].weights[t * 3 + j]);
  test.config.row_capacity = 5;  // and the tokens whose row was dropped have 0
  const Answers dropped = with_ids(test, [](int, int, int) { return 0; });
  run_rounds(test, {&dropped});
  EXPECT_EQ(dropped.results[3].weights, std::vector<float>(24, 0.0f));
}

/// 2. Drops are counted per source and are the same rows whatever the timing.
TEST(SeedGaps, T02_OverflowIsCountedAndAlwaysTakesTheSameRows) {
  TestCase test = small_case(4);
  test.config.row_capacity = 7;
  const Answers answers = with_ids(test, [](int, int, int j) { return j; });
  for (int last = 0; last < 4; ++last) {  // another rank comes last each time
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      if (rank.rank() == last) std::this_thread::sleep_for(std::chrono::milliseconds(20));
      rank.run(answers);  // counts, sources and results as the oracle says
    });
    EXPECT_EQ(log.text(), "");
  }
  EXPECT_EQ(answers.received[0].dropped_per_source, (std::vector<std::int64_t>{1, 8, 8, 8}));
}

/// 3. Ids are checked; none is followed to memory that is not there.
TEST(SeedGaps, T03_IdsOutsideTheExpertsAreNeverFollowed) {
  for (const bool wide : {false, true}) {
    TestCase test = small_case(3);
    test.config.top_k = 6;
    test.topk_ids_are_int64 = wide;
    const std::int64_t ids[] = {-1, wide ? INT64_MIN : INT32_MIN, wide ? INT64_MAX : INT32_MAX, 8, -2, 5};
    const Answers answers = with_ids(test, [&](int, int, int j) { return ids[j]; });
    run_rounds(test, {&answers, &answers});
    EXPECT_EQ(answers.received[0].bad_ids, 8 * 4);
  }
}

/// 4. An id that a token repeats takes one row of its expert, so that the worst case is the worst case.
TEST(SeedGaps, T04_RepeatedIdsCannotOverrunAnExpert) {
  for (const Layout layout : {Layout::expert_major, Layout::contiguous}) {
    TestCase test = small_case(2);
    test.config.layout = layout;
    test.config.num_experts = 2;
    test.config.top_k = 64;
    test.config.overflow = Overflow::error;  // nothing may be dropped
    const Answers answers = with_ids(test, [](int, int, int) { return 1; });
    run_rounds(test, {&answers, &answers});
    EXPECT_EQ(answers.received[1].expert_counts, std::vector<std::int32_t>{16});
  }
}

/// 5. Zero-copy on expert rows merges the expert rows with their weights; rows that are not given are refused.
TEST(SeedGaps, T05_ZeroCopyByExpertUsesTheExpertRows) {
  for (const Layout layout : {Layout::expert_major, Layout::contiguous}) {
    TestCase test = small_case(3);
    test.config.layout = layout;
    test.config.zero_copy = true;
    test.rounds = 2;
    EXPECT_EQ(run_case(test), "");
    const Answers answers = answers_of(test);
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      Round round(test, answers, rank.rank());
      Received received = rank.exchange.dispatch(round.input());
      const CombineBuffer buffer = received.combine_buffer();
      if (buffer.num_rows != received.experts().num_rows_max) log.add("the buffer has ", buffer.num_rows, " rows");
      try {
        rank.exchange.combine(std::move(received), {}, round.output());
        log.add("null rows were taken");
      } catch (const UsageError&) {
      }
    });
    EXPECT_EQ(log.text(), "");
  }
}

/// 6. Scales of any byte count, also odd and past 256, at any alignment of the caller's memory.
TEST(SeedGaps, T06_ScalesOfAnyByteCount) {
  for (const int bytes : {1, 2, 3, 5, 6, 7, 9, 15, 16, 17, 31, 33, 100, 224, 255, 256, 257, 1000}) {
    TestCase test = small_case(3);
    test.config.scale_bytes = bytes;
    test.config.layout = static_cast<Layout>(bytes % 3);
    ASSERT_EQ(run_case(test), "");
  }
  TestCase test = small_case(2);
  test.config.scale_bytes = 32;  // would be moved 16 bytes at a time if the caller's memory were aligned
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    for (const int shift : {1, 4, 8}) {
      const Buffer crooked(test.backend, 8 * 32 + 16);  // begins at a multiple of 16
      copy_in(test.backend, crooked.as<std::uint8_t>() + shift, answers.inputs[rank.rank()].scales.data(), 8 * 32);
      DispatchInput input = round.input();
      input.scales = crooked.as<std::uint8_t>() + shift;
      const Received received = rank.exchange.dispatch(input);
      round.check(view_of(received), log);
    }
  });
  EXPECT_EQ(log.text(), "");
}

/// 7. Row sizes are checked for the dtype of each direction; a wire that does not fit the rows is refused, not skipped.
TEST(SeedGaps, T07_EachDtypesRowsAreChecked) {
  Config config = small_case(2).config;
  config.hidden = 8;  // 16 bytes of bf16
  EXPECT_TRUE(supports(config, 2));
  config.dispatch_dtype = Dtype::fp8_e4m3;
  EXPECT_NE(supports(config, 2).reason.find("fp8_e4m3 rows of 8 bytes"), std::string::npos)
      << supports(config, 2).reason;
  std::swap(config.dispatch_dtype, config.combine_dtype);
  EXPECT_NE(supports(config, 2).reason.find("fp8_e4m3 rows of 8 bytes"), std::string::npos);
  config = small_case(2).config;
  config.combine_quant = CombineQuant::fp8_direct_cast;
  config.combine_dtype = Dtype::f32;
  EXPECT_NE(supports(config, 2).reason.find("fp8_direct_cast with combine_dtype f32"), std::string::npos);
}

/// All 256 codes through a combine of one rank: widened and narrowed once.
void check_all_codes(Dtype dtype, std::uint8_t nan) {
  TestCase test = small_case(1);
  test.config.hidden = 256;
  test.config.top_k = 1;
  test.config.max_tokens_per_rank = 1;
  test.config.dispatch_dtype = test.config.combine_dtype = dtype;
  Answers answers = with_ids(test, [](int, int, int) { return 0; });
  std::uint8_t out[256] = {};
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, 0);
    Received received = rank.exchange.dispatch(round.input());
    std::uint8_t codes[256];
    for (int i = 0; i < 256; ++i) codes[i] = static_cast<std::uint8_t>(i);
    const Buffer rows(test.backend, 256), result(test.backend, 256);
    copy_in(test.backend, rows.data(), codes, 256);
    CombineInput from;
    from.rows = rows.data();
    rank.exchange.combine(std::move(received), from, {result.data(), nullptr});
    copy_out(test.backend, out, result.data(), 256);
  });
  EXPECT_EQ(log.text(), "");
  for (int i = 0; i < 256; ++i) {
    const bool is_nan = std::isnan(oracle::decode(dtype, static_cast<std::uint32_t>(i)));
    const bool is_zero = oracle::decode(dtype, static_cast<std::uint32_t>(i)) == 0.0f;  // 0 + -0 is +0
    const int right = is_nan ? nan : is_zero ? 0 : i;
    EXPECT_EQ(out[i], right) << name_of(dtype) << " code " << i;
  }
}

/// 8. FNUZ has codes of its own: 0x7f is 240, 0xff -240, 0x80 NaN.
TEST(SeedGaps, T08_FnuzIsAFormatOfItsOwn) {  // needs instances that some builds leave out, see tests/CMakeLists.txt
  EXPECT_EQ(oracle::decode(Dtype::fp8_e4m3fnuz, 0x7f), 240.0f);
  check_all_codes(Dtype::fp8_e4m3fnuz, 0x80);
  check_all_codes(Dtype::fp8_e4m3, 0x7f);
}

/// 9. Block scales keep what the bare cast cuts off at 448; sums are in f32, rounded once.
TEST(SeedGaps, T09_BlockScalesKeepLargeAndSmallRows) {
  for (const CombineQuant combine_quant : {CombineQuant::fp8_direct_cast, CombineQuant::fp8_blockwise}) {
    TestCase test = small_case(1);
    test.config.top_k = 1;
    test.config.max_tokens_per_rank = 1;
    test.config.combine_quant = combine_quant;
    const Answers answers = with_ids(test, [](int, int, int) { return 0; });
    for (const float value : {60000.0f, 1e-6f}) {
      Log log;
      run_ranks(test, log, [&](Rank& rank) {
        Round round(test, answers, 0);
        Received received = rank.exchange.dispatch(round.input());
        std::uint8_t host[256];
        oracle::narrow_row(Dtype::bf16, std::vector<float>(128, value), host);
        const Buffer rows(test.backend, 256), result(test.backend, 256);
        copy_in(test.backend, rows.data(), host, 256);
        CombineInput from;
        from.rows = rows.data();
        rank.exchange.combine(std::move(received), from, {result.data(), nullptr});
        std::uint8_t out[256];
        copy_out(test.backend, out, result.data(), 256);
        const float got = oracle::widen_row(Dtype::bf16, out, 128)[7];
        const float right = combine_quant == CombineQuant::fp8_blockwise ? value : value > 1 ? 448.0f : 0.0f;
        if (std::fabs(got - right) > right / 16) log.add(name_of(combine_quant), ": ", value, " came home as ", got);
      });
      EXPECT_EQ(log.text(), "");
    }
  }
  TestCase test = small_case(8);  // 8 rows of 1/2 and one rounding: 4, where fp4 steps would stick
  test.config.top_k = 8;
  test.config.combine_dtype = Dtype::fp4_e2m1;
  test.recipe.fill = oracle::Fill::all_codes;
  EXPECT_EQ(run_case(test), "");
}

/// 10. What a longer call before has left behind is marked as nobody's.
TEST(SeedGaps, T10_RowsPastTheCountAreMarkedInEveryCall) {
  for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
    TestCase test = small_case(3);
    test.config.layout = layout;
    const Answers full = answers_of(test);
    test.recipe.tokens = {1, 0, 2};
    const Answers few = answers_of(test);
    test.recipe.tokens = {0, 0, 0};
    const Answers none = answers_of(test);
    run_rounds(test, {&full, &few, &full, &none, &few, &none, &full});
  }
}

/// 11. Blocks of 16 and more warps do all their work.
TEST(SeedGaps, T11a_BlocksOfManyWarps) {
  for (const int width : {32, 64}) {
    TestCase test = small_case(2);
    test.config.layout = Layout::expert_major;
    test.executor = {.width = width, .num_blocks = 1, .num_threads = width * 16};
    EXPECT_EQ(run_case(test), "");
  }
}

/// 11. Experts of other ranks are not taken for local ones: every rank, experts at both ends.
TEST(SeedGaps, T11b_RemoteExpertsAreNotLocal) {
  TestCase test = small_case(5);
  test.config.num_experts = 15;
  test.config.top_k = 4;
  for (const Layout layout : {Layout::expert_major, Layout::contiguous}) {
    test.config.layout = layout;
    const Answers answers = with_ids(test, [](int r, int t, int j) { return (r * 3 + t + j * 4) % 15; });
    run_rounds(test, {&answers});
  }
}

/// 11. Exchanges of every dtype side by side in one process.
TEST(SeedGaps, T11c_DtypesSideBySide) {
  std::vector<TestCase> tests;
  for (const Instance& instance : kBuiltInstances) {
    if (instance.combine_quant != CombineQuant::none) continue;
    tests.push_back(small_case(2));
    tests.back().config.dispatch_dtype = tests.back().config.combine_dtype = instance.rows;
  }
  std::vector<Answers> answers;
  for (const TestCase& test : tests) answers.push_back(answers_of(test));
  Log log;
  const ThreadTeam team(2);
  run_threads(2, log, [&](int r) {
    std::vector<std::unique_ptr<Rank>> ranks;
    for (std::size_t i = 0; i < tests.size(); ++i) ranks.push_back(std::make_unique<Rank>(tests[i], team, r, log));
    for (int n = 0; n < 3; ++n)
      for (std::size_t i = 0; i < tests.size(); ++i) ranks[i]->run(answers[i]);
  });
  EXPECT_EQ(log.text(), "");
}

/// 11. More than 65 536 tokens.
TEST(SeedGaps, T11d_MoreThan65536Tokens) {
  TestCase test = small_case(2);
  test.config.hidden = 8;
  test.config.max_tokens_per_rank = XD_ASAN || XD_TSAN ? 66'000 : 140'000;
  test.config.top_k = 1;
  test.recipe.tokens = {test.config.max_tokens_per_rank, 65'537};
  EXPECT_EQ(run_case(test), "");
}

/// What comes home when experts give back what they got.
std::vector<std::uint8_t> identity_result(const TestCase& test, const oracle::RankInput& in) {
  std::vector<std::uint8_t> result(in.rows.size());
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    const std::vector<std::int32_t> narrow(in.ids.begin(), in.ids.end());
    const Buffer rows(test.backend, in.rows.size()), ids(test.backend, narrow.size() * 4);
    copy_in(test.backend, rows.data(), in.rows.data(), in.rows.size());
    copy_in(test.backend, ids.data(), narrow.data(), narrow.size() * 4);
    DispatchInput input;
    input.tokens = rows.data();
    input.topk_ids = ids.data();
    input.num_tokens = in.num_tokens;
    Received received = rank.exchange.dispatch(input);
    CombineInput from;
    from.rows = received.experts().rows;
    rank.exchange.combine(std::move(received), from, {rows.data(), nullptr});
    copy_out(test.backend, result.data(), rows.data(), result.size());
  });
  EXPECT_EQ(log.text(), "");
  return result;
}

/// 11. Rows that lie more than 4 GiB behind the first; only the pages that are touched cost memory.
TEST(SeedGaps, T11e_OffsetsBeyond4GiB) {
  TestCase test = small_case(1);
  test.config.hidden = 16384;
  test.config.layout = Layout::expert_major;
  test.config.max_tokens_per_rank = 30'000;  // 8 experts of 30 000 rows of 32 KiB: 7.3 GiB
  test.recipe.tokens = {40};
  const oracle::RankInput in = oracle::make_inputs(oracle_case(test), test.recipe)[0];
  const std::vector<std::uint8_t> far = identity_result(test, in);
  test.config.expert_capacity = 40;
  EXPECT_TRUE(far == identity_result(test, in));
  EXPECT_FALSE(far == in.rows);  // two experts each
}

}  // namespace
}  // namespace crossdock::testing
