// SPDX-License-Identifier: Apache-2.0
// Streams and graphs: calls that return before they run, recorded calls that run a thousand times with other contents.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <random>
#include <thread>

#include "platform/cpu/sanitizers.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

constexpr bool kSlow = XD_ASAN || XD_TSAN;

CallOptions on(Stream& stream) { return stream.options(); }

/// Several rounds enqueued before any of them runs to its end; the host never waits in between.
TEST(Streams, RoundsAreEnqueuedWithoutWaiting) {
  for (const Path path : {Path::staged, Path::zero_copy, Path::fused}) {
    TestCase test = small_case(3);
    test.config.scale_bytes = 7;
    set_path(test.config, path);
    std::vector<Answers> rounds;
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
      test.recipe.seed = seed;
      rounds.push_back(answers_of(test));
    }
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      Stream stream;
      std::vector<std::unique_ptr<Round>> mine;
      std::optional<View> last;
      stream.pause(std::chrono::milliseconds(rank.rank() * 5));
      for (const Answers& answers : rounds) {
        mine.push_back(std::make_unique<Round>(test, answers, rank.rank()));
        Received received = rank.exchange.dispatch(mine.back()->input(), on(stream));
        last = view_of(received);
        const CombineInput from = mine.back()->run_experts(received, stream.handle());
        rank.combine(std::move(received), from, mine.back()->output(), stream.handle());
      }
      stream.synchronize();
      for (const auto& round : mine) round->check_output(log);
      mine.back()->check(*last, log);
    });
    EXPECT_EQ(log.text(), "") << text_of(test);
  }
}

/// Counts are read behind the dispatch that writes them, however late it runs; a stream that records has run nothing.
TEST(Streams, CountsAreReadBehindTheirDispatch) {
  const TestCase test = small_case(2);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Stream stream;
    Round round(test, answers, rank.rank());
    stream.pause(std::chrono::milliseconds(20));
    Received received = rank.exchange.dispatch(round.input(), on(stream));
    Counts counts{};
    rank.exchange.read(&counts, received.counts(), sizeof counts, stream.handle());
    if (counts.num_tokens != round.input().num_tokens) log.add("T ", counts.num_tokens);
    stream.begin_capture();
    try {
      rank.exchange.read(&counts, received.counts(), sizeof counts, stream.handle());
      log.add("read from a stream that records");
    } catch (const StateError&) {
    }
    stream.end_capture();
    const CombineInput from = round.run_experts(received, stream.handle());
    rank.combine(std::move(received), from, round.output(), stream.handle());
    stream.synchronize();
    round.check_output(log);
  });
  EXPECT_EQ(log.text(), "");
}

/// Calls of one exchange in turn on two streams, ordered by the caller; another exchange of the same group beside it.
TEST(Streams, TwoExchangesOnTwoStreamsAtOnce) {
  const TestCase one = small_case(3);
  TestCase two = small_case(3);
  two.config.hidden = 64;
  two.config.combine_dtype = Dtype::f32;
  two.recipe.seed = 7;
  const Answers first = answers_of(one), second = answers_of(two);
  Log log;
  run_ranks(one, log, [&](Rank& rank) {
    Exchange other(rank.group, two.config);
    Stream streams[2];
    std::vector<std::unique_ptr<Round>> mine;
    for (int n = 0; n < 10; ++n) {
      const auto enqueue = [&](const TestCase& test, const Answers& answers, Exchange& exchange, Stream& stream) {
        mine.push_back(std::make_unique<Round>(test, answers, rank.rank()));
        Received received = exchange.dispatch(mine.back()->input(), on(stream));
        const CombineInput from = mine.back()->run_experts(received, stream.handle());
        exchange.combine(std::move(received), from, mine.back()->output(), on(stream));
      };
      enqueue(one, first, rank.exchange, streams[0]);
      enqueue(two, second, other, streams[1]);
    }
    for (Stream& stream : streams) stream.synchronize();
    for (const auto& round : mine) round->check_output(log);
  });
  EXPECT_EQ(log.text(), "");
}

/// dispatch, experts and combine recorded once; then replayed with other rows, ids, weights, scales and T each time. Ranks
/// start each replay at times of their own.
void replay_many_times(TestCase test, int num_replays) {
  if (backend_of_tests() != BackendKind::cpu)
    GTEST_SKIP() << "the host plays the experts inside the graph; on GPUs see Replays";
  test.device_tokens = true;
  std::vector<Answers> contents;
  for (std::uint64_t seed = 1; seed <= 7; ++seed) {
    test.recipe.seed = seed;
    test.recipe.tokens = oracle::ragged_tokens(test.num_ranks, test.config.max_tokens_per_rank, seed);
    if (seed == 7) test.recipe.tokens.assign(test.num_ranks, 0);
    contents.push_back(answers_of(test));
  }
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Stream stream;
    std::mt19937_64 random(static_cast<unsigned>(rank.rank()));
    Round round(test, contents[0], rank.rank(), true);
    stream.begin_capture();
    Received received = rank.exchange.dispatch(round.input(), on(stream));
    const View view = view_of(received);
    const Targets targets = targets_of(received, test);
    stream.enqueue([&] { round.run_experts(targets); });  // writes what is right when it runs
    rank.combine(std::move(received), round.combine_input(targets), round.output(), stream.handle());
    const Graph graph = stream.end_capture();
    for (int n = 0; n < num_replays && log.empty(); ++n) {
      if (random() % 16 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 500));
      round.load(contents[n * 5 % contents.size()]);
      round.spoil_output();
      const int times = n % 10 == 0 ? 3 : 1;  // several in a row, nobody waits in between
      for (int again = 0; again < times; ++again) stream.replay(graph);
      stream.synchronize();
      round.check(view, log);
      round.check_output(log);
      if (!log.empty()) log.add("rank ", rank.rank(), " in replay ", n);
    }
    rank.exchange.clear_status();
  });
  EXPECT_EQ(log.text(), "") << text_of(test);
}

TEST(Graphs, AThousandReplaysStaged) {
  TestCase test = small_case(4);
  test.config.hidden = 64;
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  test.recipe.routing = oracle::Routing::mixed;
  replay_many_times(test, kSlow ? 100 : 1000);
}

TEST(Graphs, AThousandReplaysZeroCopyByExpert) {
  TestCase test = small_case(3);
  test.config.hidden = 32;
  test.config.layout = Layout::contiguous;
  test.config.alignment = 8;
  test.config.zero_copy = true;
  replay_many_times(test, kSlow ? 100 : 1000);
}

TEST(Graphs, AThousandReplaysZeroCopy) {
  TestCase test = small_case(3);
  test.config.hidden = 32;
  test.config.zero_copy = true;
  replay_many_times(test, kSlow ? 100 : 1000);
}

TEST(Graphs, AThousandReplaysFused) {
  TestCase test = small_case(3);
  test.config.hidden = 32;
  test.config.top_k = 3;
  test.config.fused = true;
  replay_many_times(test, kSlow ? 100 : 1000);
}

TEST(Graphs, ReplaysWithACapacity) {
  TestCase test = small_case(3);
  test.config.row_capacity = 5;
  test.config.combine_quant = CombineQuant::fp8_blockwise;
  replay_many_times(test, kSlow ? 30 : 200);
}

TEST(Graphs, ReplaysOnFibers) {
  for (const int num_waiting_blocks : {0, 1}) {  // whole calls, calls in steps
    TestCase test = small_case(2);
    test.executor = {.width = 32,
                     .num_blocks = 2,
                     .num_waiting_blocks = num_waiting_blocks,
                     .num_threads = 64,
                     .splits_per_row = 2,
                     .seed = 4};
    replay_many_times(test, kSlow ? 10 : 40);
  }
}

TEST(Graphs, ReplaysInSteps) {
  for (const bool zero_copy : {false, true}) {
    TestCase test = small_case(3);
    test.config.num_blocks = 2;  // more than may wait on the CPU
    test.config.zero_copy = zero_copy;
    test.config.combine_topk_weights = test.combine_topk_weights = zero_copy;
    replay_many_times(test, kSlow ? 30 : 200);
  }
}

/// A kept plan: its dispatch and its combine captured alone, replayed in any order, beside ordinary calls.
TEST(Graphs, DispatchAndCombineOfAKeptPlanCapturedAlone) {
  TestCase test = small_case(3);
  test.config.max_in_flight = 2;
  const Answers answers = answers_of(test), plain = answers_of(test, 3);
  std::vector<Answers> payloads;
  for (std::uint64_t p = 1; p <= 4; ++p) payloads.push_back(answers_of(test, p));
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Stream stream;
    Round round(test, answers, rank.rank(), true);
    Received first = rank.exchange.dispatch(round.input(), on(stream));
    const Plan plan = first.retain_plan();
    const CombineInput from = round.run_experts(first, stream.handle());
    rank.combine(std::move(first), from, round.output(), stream.handle());
    stream.synchronize();
    round.check_output(log);

    stream.begin_capture();
    std::optional<Received> replayed = rank.exchange.dispatch(plan, round.payload(), on(stream));
    const Graph dispatch = stream.end_capture();
    const View view = view_of(*replayed);
    stream.begin_capture();
    rank.exchange.combine(plan, from, round.output(), on(stream));
    const Graph combine = stream.end_capture();

    std::mt19937_64 random(5);  // alike on all ranks
    for (int n = 0; n < (kSlow ? 40 : 200); ++n) {
      const Answers& now = payloads[random() % payloads.size()];
      round.load(now);
      if (random() % 2) {
        stream.replay(dispatch);
        stream.synchronize();
        round.check(view, log);
      }
      copy_in(test.backend, const_cast<void*>(from.rows), now.outputs[rank.rank()].data(),
              now.outputs[rank.rank()].size(), stream.handle());
      round.spoil_output(stream.handle());
      for (unsigned again = 0; again <= random() % 3; ++again) stream.replay(combine);
      stream.synchronize();
      round.check_output(log);
      if (n % 10 == 0) rank.run(plain, stream.handle());
    }
  });
  EXPECT_EQ(log.text(), "");
}

/// Refused before anything is enqueued, also while capturing.
TEST(Graphs, ARefusedCallRecordsNothing) {
  const TestCase test = small_case(1);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Stream stream;
    DispatchInput bad;
    bad.num_tokens = 9;
    stream.begin_capture();
    try {
      (void)rank.exchange.dispatch(bad, on(stream));
      log.add("not refused");
    } catch (const UsageError&) {
    }
    if (stream.end_capture().num_calls != 0) log.add("something was recorded");
  });
  EXPECT_EQ(log.text(), "");
}

/// A poll from another thread's point of view: the host looks while kernels of the stream write reports.
TEST(Streams, PollingWhileKernelsRun) {
  TestCase test = small_case(2);
  test.recipe.routing = oracle::Routing::bad;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Stream stream;
    Round round(test, answers, rank.rank());
    for (int n = 0; n < 50; ++n) {
      Received received = rank.exchange.dispatch(round.input(), on(stream));
      while (rank.exchange.poll().code == StatusCode::ok) std::this_thread::yield();
      stream.synchronize();
      const Status status = rank.exchange.poll();
      if (status.code != StatusCode::usage) log.add("poll: ", status.text);
      rank.exchange.clear_status();
    }
  });
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace crossdock::testing
