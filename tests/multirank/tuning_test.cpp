// SPDX-License-Identifier: Apache-2.0
// The geometry of calls: who chooses it, and that no choice changes a bit. On the CPU the kernels run on fibers, as they are
// asked to; on GPUs as they are.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "crossdock/crossdock.hpp"
#include "platform/cpu/sanitizers.hpp"
#include "support/fiber_launch.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

TestCase case_on_lanes(int width) {
  TestCase test = small_case(2);
  test.config.hidden = 640;
  test.config.num_experts = 10;
  test.config.top_k = 4;
  test.config.max_tokens_per_rank = 40;
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  test.recipe.routing = oracle::Routing::mixed;
  test.recipe.tokens = {40, 37};
  test.executor = {.width = width, .num_blocks = 9, .num_threads = 4 * width, .as_asked = true, .seed = 3};
  return test;
}

std::string text_of(const LaunchInfo& launch) {
  return std::to_string(launch.num_blocks) + " blocks of " + std::to_string(launch.num_warps) + " warps, " +
         std::to_string(launch.splits_per_row) + " splits_per_row, by " + std::string(name_of(launch.tuned_by));
}

void expect_launch(Rank& rank, const std::string& expected) {
  if (const std::string is = text_of(rank.exchange.last_launch()); is != expected)
    rank.log.add("rank ", rank.rank(), " launched ", is, "; must be ", expected);
}

TEST(Tuning, NoGeometryChangesABit) {
  constexpr int kAsked[][3] = {{1, 1, 1}, {1, 3, 5}, {2, 4, 32},
                               {5, 1, 3}, {7, 3, 7}, {9, 2, 2}};  // blocks, warps, splits_per_row
  int n = 0;
  for (const auto& [blocks, warps, splits_per_row] : kAsked)
    for (const Path path : {Path::staged, Path::zero_copy, Path::fused})
      for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
        if (path == Path::fused && layout != Layout::token_major) continue;
        if (++n % (XD_TSAN ? 7 : XD_ASAN ? 3 : 1) != 0) continue;
        TestCase test = case_on_lanes(n % 2 && !XD_TSAN ? 64 : 32);  // mappings of fibers run out under ThreadSanitizer
        set_path(test.config, path);
        test.config.layout = layout;
        test.config.num_blocks = blocks;
        test.config.num_warps = warps;
        test.config.splits_per_row = splits_per_row;
        const Answers answers = answers_of(test);
        Log log;
        run_ranks(test, log, [&](Rank& rank) {
          rank.run(answers);
          const LaunchInfo launch = rank.exchange.last_launch();
          if (launch.num_blocks != blocks || launch.num_warps != warps || launch.tuned_by != TuningSource::config)
            log.add("launched ", text_of(launch));
        });
        ASSERT_EQ(log.text(), "") << testing::text_of(test);
      }
}

/// Ranks need not agree: each may be asked for another geometry in a call.
TEST(Tuning, RanksMayDiffer) {
  TestCase test = case_on_lanes(32);
  test.recipe.routing = oracle::Routing::random;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Stream stream(test.backend);
    CallOptions options = stream.options();
    options.num_blocks = rank.rank() == 0 ? 2 : 7;
    options.num_warps = 3 - rank.rank();
    options.splits_per_row = 5;
    Round round(test, answers, rank.rank());
    Received received = rank.exchange.dispatch(round.input(), options);
    stream.synchronize();
    expect_launch(rank, rank.rank() == 0 ? "2 blocks of 3 warps, 5 splits_per_row, by call"
                                         : "7 blocks of 2 warps, 5 splits_per_row, by call");
    round.check(view_of(received), log);
    const CombineInput input = round.run_experts(received, stream.handle());
    rank.exchange.combine(std::move(received), input, round.output(), options);
    stream.synchronize();
    round.check_output(log);
  });
  EXPECT_EQ(log.text(), "");
}

/// A tuning file for the devices and ranks of tests, in CROSSDOCK_TUNING_FILE while it lives.
class FileOfTests {
 public:
  FileOfTests(const TestCase& test, const std::string& entries) {
    const std::string model =
        Group::join(ThreadTeam(1), 0, options_of(test.backend, 0, std::chrono::seconds(10))).device_model();
    std::ofstream(path_) << "crossdock-tuning 1 version=" << version() << " ranks=" << test.num_ranks
                         << " device=" << model << "\n"
                         << entries;
    ::setenv("CROSSDOCK_TUNING_FILE", path_.c_str(), 1);
  }
  ~FileOfTests() {
    ::unsetenv("CROSSDOCK_TUNING_FILE");
    std::remove(path_.c_str());
  }

 private:
  const std::string path_ = ::testing::TempDir() + "tuning-of-tests";
};

TEST(Tuning, TheCallIsHeardBeforeTheConfigBeforeTheFileBeforeTheRule) {
  TestCase test = case_on_lanes(32);
  test.recipe.routing = oracle::Routing::random;
  const std::string shape = "dtype=bf16 hidden=640 topk=4 experts_per_rank=5 ";
  const FileOfTests file(test, "op=dispatch " + shape + "tokens=37 num_blocks=6 num_warps=2 splits_per_row=4\n" +
                                   "op=dispatch " + shape + "tokens=39 num_sms=3\n" + "op=combine path=staged " +
                                   shape + "tokens=40 num_blocks=8 splits_per_row=2\n");
  test.config.num_warps = 3;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Stream stream(test.backend);
    CallOptions options = stream.options();
    const auto dispatch = [&] {
      Round round(test, answers, rank.rank());
      Received received = rank.exchange.dispatch(round.input(), options);
      stream.synchronize();
      round.check(view_of(received), log);
      return received;
    };
    const bool first = rank.rank() == 0;  // has 40 tokens, beyond the file's; the other 37
    if (first)
      dispatch();
    else
      dispatch(), expect_launch(rank, "6 blocks of 3 warps, 4 splits_per_row, by config");
    if (first && rank.exchange.last_launch().tuned_by != TuningSource::config) log.add("the config was not heard");
    options.num_blocks = 2;
    (void)dispatch();
    if (!first) expect_launch(rank, "2 blocks of 3 warps, 4 splits_per_row, by call");
    options.num_sms = 1;
    (void)dispatch();
    if (!first) expect_launch(rank, "1 blocks of 3 warps, 4 splits_per_row, by call");
  });
  EXPECT_EQ(log.text(), "");
  test.config.num_warps = 0;
  run_ranks(test, log, [&](Rank& rank) {
    rank.run(answers);
    const LaunchInfo combine = rank.exchange.last_launch();
    if (combine.num_blocks != 8 || combine.tuned_by != TuningSource::file) log.add("combine: ", text_of(combine));
    Round round(test, answers, rank.rank());
    (void)rank.exchange.dispatch(round.input());
    const TuningSource by = rank.exchange.last_launch().tuned_by;
    if (by != (rank.rank() == 0 ? TuningSource::rule : TuningSource::file)) log.add("dispatch: by ", name_of(by));
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Tuning, NegativeIsRefused) {
  TestCase test = case_on_lanes(32);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    for (int CallOptions::*member :
         {&CallOptions::num_sms, &CallOptions::num_blocks, &CallOptions::num_warps, &CallOptions::splits_per_row}) {
      CallOptions options;
      options.*member = -1;
      try {
        (void)rank.exchange.dispatch(round.input(), options);
        log.add("-1 was taken");
      } catch (const UsageError& error) {
        if (std::string(error.what()).find("= -1; must be 0 (not chosen here) or more") == std::string::npos)
          log.add(error.what());
      }
    }
    rank.run(answers);
  });
  EXPECT_EQ(log.text(), "");
  for (std::int32_t Config::*member :
       {&Config::num_sms, &Config::num_blocks, &Config::num_warps, &Config::splits_per_row}) {
    Config config = test.config;
    config.*member = -1;
    EXPECT_NE(supports(config, 2).reason.find("= -1; must be 0 (not chosen) or more"), std::string::npos);
  }
}

}  // namespace
}  // namespace crossdock::testing
