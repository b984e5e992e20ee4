// SPDX-License-Identifier: Apache-2.0
// Ranks that come late, never, or leave early: nobody waits for ever, everybody learns who and where, the process lives on.
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>

#include "op/exchange_state.hpp"
#include "platform/cpu/sanitizers.hpp"
#include "support/fiber_launch.hpp"
#include "support/harness.hpp"
#include "sync/status.hpp"

namespace crossdock::testing {
namespace {

using namespace std::chrono_literals;

void expect_words(Log& log, const std::string& text, const std::vector<std::string>& words) {
  for (const std::string& word : words)
    if (text.find(word) == std::string::npos) log.add("`", word, "` missing in: ", text);
}

/// Whether `call` is refused with class E and these words.
template <class E, class Call>
void expect_refusal(Log& log, Call&& call, const std::vector<std::string>& words) {
  try {
    call();
    log.add("not refused; expected words: ", words[0]);
  } catch (const E& error) {
    expect_words(log, error.what(), words);
  } catch (const std::exception& error) {
    log.add("wrong class of error: ", error.what());
  }
}

std::string operation_of(Edge edge) { return edge == Edge::counts || edge == Edge::done ? "dispatch" : "combine"; }

/// All ranks but `absent` end with a status that names the edge, the absent rank and what was waited for, also those that
/// have heard of it from a peer; later calls are refused alike.
void expect_lost(Rank& rank, Edge edge, int absent, std::uint64_t expected, std::uint64_t seen, Round& round) {
  const Status status = rank.exchange.poll();
  const std::string name(name_of(edge));
  Log& log = rank.log;
  if (status.code != StatusCode::peer_lost) log.add("rank ", rank.rank(), " polls ", name_of(status.code));
  if (status.edge != edge) log.add("edge ", name_of(status.edge), ", must be ", name_of(edge));
  if (status.peer != absent) log.add("blames rank ", status.peer, ", must be ", absent);
  if (!status.fatal || status.rank != rank.rank()) log.add("fatal ", status.fatal, " rank ", status.rank);
  if (status.epoch_expected != expected || status.epoch_seen != seen)
    log.add("epoch expected ", status.epoch_expected, " seen ", status.epoch_seen, "; must be ", expected, " and ",
            seen);
  expect_words(log, status.text,
               {"rank " + std::to_string(rank.rank()), "rank " + std::to_string(absent),
                operation_of(edge) + ", phase `wait_" + name + "`, edge `" + name + "`: expected epoch " +
                    std::to_string(expected) + ", saw " + std::to_string(seen),
                "Close the group"});
  rank.exchange.clear_status();  // a failure stays
  expect_refusal<PeerLostError>(log, [&] { (void)rank.exchange.dispatch(round.input()); },
                                {"dispatch", "rank " + std::to_string(absent), "Close"});
}

struct Scene {
  TestCase test = small_case(3);
  Answers answers = answers_of(test);
  Log log;
  ThreadTeam team{3};
  std::atomic<int> done{0};

  /// Runs body(rank, round) on all ranks with a short deadline; nobody leaves before all are through.
  void play(const std::function<void(Rank&, Round&)>& body, std::chrono::milliseconds deadline = 600ms) {
    run_threads(test.num_ranks, log, [&](int r) {
      Rank rank(test, team, r, log);
      const WhenAllAreThrough leave{done, test.num_ranks};
      rank.group.set_deadline(deadline);
      Round round(test, answers, r);
      body(rank, round);
    });
    EXPECT_EQ(log.text(), "");
  }
};

TEST(Lost, APeerThatNeverDispatches) {
  Scene scene;
  scene.play([](Rank& rank, Round& round) {
    if (rank.rank() == 2) return;
    const auto began = std::chrono::steady_clock::now();
    const Received received = rank.exchange.dispatch(round.input());  // returns: the call fell through
    if (std::chrono::steady_clock::now() - began > 20s) rank.log.add("the deadline was not kept");
    expect_lost(rank, Edge::counts, 2, 1, 0, round);
  });
}

TEST(Lost, APeerThatNeverCombines) {
  Scene scene;
  scene.play([](Rank& rank, Round& round) {
    Received received = rank.exchange.dispatch(round.input());
    if (rank.rank() == 1) return;
    const CombineInput from = round.run_experts(received);
    rank.combine(std::move(received), from, round.output());
    expect_lost(rank, Edge::ready, 1, 2, 0, round);
  });
}

TEST(Lost, APeerThatSkipsTheSecondCombine) {
  Scene scene;
  scene.play([](Rank& rank, Round& round) {
    const auto [plan, rows] = rank.run_and_keep(round);
    if (rank.rank() == 0) return;
    rank.exchange.combine(plan, rows, round.output());
    expect_lost(rank, Edge::enter, 0, 3, 0, round);
  });
}

/// A rank that has shown its counts and then stops: its rows never land.
TEST(Lost, APeerThatStopsBetweenCountsAndDone) {
  Scene scene;
  scene.play([](Rank& rank, Round& round) {
    if (rank.rank() == 2) {
      const kernels::Call call = state_of(rank.exchange).call(0, 0);
      const auto tell_zeros = [&](std::uint64_t words, int count) {  // rank 2's part of them, at every rank
        for (int i = 0; i < 3 * count; ++i)
          state_of(rank.exchange)
              .group->device()
              .write_word_async(call.peers.remote<std::uint64_t>(i / count, words) + 2 * count + i % count,
                                sync::count_word(1, 0));
      };
      tell_zeros(call.buffer_set.counts_words, 3 + 1);
      tell_zeros(call.buffer_set.expert_count_words, call.shape.experts_per_rank);
      return;
    }
    const Received received = rank.exchange.dispatch(round.input());
    expect_lost(rank, Edge::done, 2, 1, 0, round);
  });
}

TEST(Lost, InALaterRoundTheEpochsAreNamed) {
  Scene scene;
  scene.play([&](Rank& rank, Round& round) {
    for (int n = 0; n < 5; ++n) rank.run(scene.answers);
    if (rank.rank() == 0) return;
    const Received received = rank.exchange.dispatch(round.input());
    expect_lost(rank, Edge::counts, 0, 11, rank.exchange.poll().epoch_seen, round);
    const std::uint64_t seen = rank.exchange.poll().epoch_seen;
    if (seen != 9 && seen != 0) rank.log.add("saw epoch ", seen, "; the last dispatch was 9");
  });
}

TEST(Lost, CallsThatAreAlreadyEnqueuedFallThrough) {
  Scene scene;
  scene.play(
      [](Rank& rank, Round& round) {
        if (rank.rank() == 2) return;
        Stream stream;
        CallOptions options;
        options.stream = stream.handle();
        std::optional<Received> received;
        const auto began = std::chrono::steady_clock::now();
        for (int n = 0; n < 10; ++n) {
          received.reset();
          received = rank.exchange.dispatch(round.input(), options);
        }
        stream.synchronize();
        if (std::chrono::steady_clock::now() - began > 10s) rank.log.add("each call waited for itself");
        expect_lost(rank, Edge::counts, 2, 1, 0, round);
      },
      1000ms);
}

TEST(Lost, OnFibersToo) {
  for (const int num_waiting_blocks : {0, 2}) {  // whole calls, calls in steps
    Scene scene;
    scene.test.executor = {
        .width = 32, .num_blocks = 3, .num_waiting_blocks = num_waiting_blocks, .num_threads = 64, .seed = 2};
    scene.play([](Rank& rank, Round& round) {
      if (rank.rank() == 2) return;
      const Received received = rank.exchange.dispatch(round.input());
      expect_lost(rank, Edge::counts, 2, 1, 0, round);
    });
  }
}

TEST(Lost, ALatePeerIsNoLostPeer) {
  Scene scene;
  scene.play(
      [&](Rank& rank, Round&) {
        std::this_thread::sleep_for(rank.rank() * 100ms);
        rank.run(scene.answers);
      },
      20'000ms);
}

TEST(Lost, NoLimitWaitsForEver) {
  Scene scene;
  scene.play(
      [&](Rank& rank, Round&) {
        if (rank.rank() == 1) std::this_thread::sleep_for(400ms);
        rank.run(scene.answers);
      },
      0ms);
}

/// The deadline may be shortened while a kernel waits.
TEST(Lost, TheDeadlineIsReadWhileWaiting) {
  Scene scene;
  std::atomic<int> polled{0};
  scene.play(
      [&](Rank& rank, Round& round) {
        if (rank.rank() == 2) return;
        Stream stream;
        CallOptions options;
        options.stream = stream.handle();
        const Received received = rank.exchange.dispatch(round.input(), options);
        std::this_thread::sleep_for(50ms);
        if (rank.exchange.poll().code != StatusCode::ok) rank.log.add("failed before the deadline");
        ++polled;
        while (polled < 2)
          std::this_thread::sleep_for(1ms);  // else a rank may hear the other's failure before it polls
        rank.group.set_deadline(300ms);
        stream.synchronize();
        expect_lost(rank, Edge::counts, 2, 1, 0, round);
      },
      60'000ms);
}

TEST(Lost, SurvivorsMakeANewGroup) {
  Scene scene;
  const ThreadTeam survivors(2);
  TestCase smaller = small_case(2);
  const Answers answers = answers_of(smaller);
  scene.play([&](Rank& rank, Round& round) {
    if (rank.rank() == 0) return;
    { const Received received = rank.exchange.dispatch(round.input()); }
    expect_lost(rank, Edge::counts, 0, 1, 0, round);
    rank.exchange.close();
    rank.group.close();
    Rank again(smaller, survivors, rank.rank() - 1, rank.log);
    again.run(answers);
  });
}

/// Ranks that combine in different modes would sum rows that are not there: all are told, with both ranks' numbers and
/// modes. Rank 1's is `of_one`, the others' `of_others`.
void expect_manners(Scene& scene, const std::string& of_others, const std::string& of_one,
                    const std::function<void(Rank&, Received&, Round&, bool other)>& combine) {
  scene.answers = answers_of(scene.test);
  scene.play(
      [&](Rank& rank, Round& round) {
        Received received = rank.exchange.dispatch(round.input());
        combine(rank, received, round, rank.rank() == 1);
        const Status status = rank.exchange.poll();
        if (status.code != StatusCode::usage || !status.fatal)
          rank.log.add("poll: ", name_of(status.code), " ", status.text);
        expect_words(rank.log, status.text,
                     {"combine in different modes: rank ", "rank 1 sums " + of_one, " sums " + of_others,
                      "found in combine, phase `wait_ready`, edge `ready`, epoch 2",
                      "seen by rank " + std::to_string(rank.rank()), "Close the group"});
        if (status.epoch_expected != 2 || status.epoch_seen != 2)
          rank.log.add("epochs ", status.epoch_expected, " and ", status.epoch_seen, " of combine 2");
        rank.exchange.clear_status();
        expect_refusal<UsageError>(rank.log, [&] { (void)rank.exchange.dispatch(round.input()); },
                                   {"dispatch", "different modes"});
      },
      20'000ms);
}

TEST(Manners, RowsInTheCombineBufferOfSomeRanksOnly) {
  Scene scene;
  scene.test.config.zero_copy = true;
  const auto combine = [](Rank& rank, Received& received, Round& round, bool other) {
    CombineInput from = round.run_experts(received);
    const Buffer staged(rank.test.backend, received.combine_buffer().num_rows * 256);
    if (other) from.rows = staged.data();
    rank.exchange.combine(std::move(received), from, round.output());
  };
  expect_manners(scene, "rows in combine buffers", "rows that are sent", combine);
}

TEST(Manners, TheSecondResultOnSomeRanksOnly) {
  Scene scene;
  scene.test.config.combine_topk_weights = scene.test.combine_topk_weights = true;
  const auto combine = [](Rank& rank, Received& received, Round& round, bool other) {
    CombineInput from = round.run_experts(received);
    from.combine_topk_weights = !other;
    rank.exchange.combine(std::move(received), from, round.output());
  };
  expect_manners(scene, "rows that are sent, combine_topk_weights", "rows that are sent", combine);
}

TEST(Manners, FusedOnSomeRanksOnly) {
  Scene scene;
  scene.test.config.fused = true;
  const auto combine = [](Rank& rank, Received& received, Round& round, bool other) {
    CombineInput staged;
    const Buffer rows(rank.test.backend, received.tokens().row_capacity * 256);
    staged.rows = rows.data();
    if (other)
      rank.exchange.combine(std::move(received), staged, round.output());
    else
      rank.exchange.combine_fused(std::move(received), round.output());
  };
  expect_manners(scene, "fused rows", "rows that are sent", combine);
}

TEST(Abort, ReachesPeersThatWaitAndPeersThatComeLater) {
  Scene scene;
  scene.play(
      [](Rank& rank, Round& round) {
        Log& log = rank.log;
        if (rank.rank() == 1) {
          std::this_thread::sleep_for(100ms);
          rank.group.abort("the model has gone mad");
        } else {
          if (rank.rank() == 0) std::this_thread::sleep_for(300ms);  // comes when it is over
          const auto began = std::chrono::steady_clock::now();
          const Received received = rank.exchange.dispatch(round.input());
          if (std::chrono::steady_clock::now() - began > 10s) log.add("abort did not wake rank ", rank.rank());
        }
        const Status status = rank.exchange.poll();
        if (status.code != StatusCode::aborted || !status.fatal || status.peer != 1) log.add("poll: ", status.text);
        expect_words(log, status.text, {"rank 1 aborted the group: the model has gone mad"});
        if (rank.group.poll().code != StatusCode::aborted) log.add("the group does not know");
        expect_refusal<AbortedError>(log, [&] { (void)rank.exchange.dispatch(round.input()); },
                                     {"dispatch refused", "rank 1", "the model has gone mad"});
        rank.exchange.clear_status();
        expect_refusal<AbortedError>(log, [&] { (void)rank.exchange.dispatch(round.input()); }, {"gone mad"});
      },
      30'000ms);
}

TEST(Abort, TheFirstReasonStaysAndIsCutAt207Bytes) {
  Scene scene;
  scene.play(
      [](Rank& rank, Round& round) {
        if (rank.rank() == 0) {
          rank.group.abort(std::string(180, 'a') + std::string(400, 'b'));
          rank.group.abort("a second thought");
        } else {
          const Received received = rank.exchange.dispatch(round.input());
        }
        const std::string text = rank.exchange.poll().text;
        expect_words(rank.log, text, {std::string(180, 'a') + std::string(27, 'b')});
        if (text.find(std::string(28, 'b')) != std::string::npos) rank.log.add("the reason was not cut");
        if (text.find("second") != std::string::npos) rank.log.add("the second reason won");
      },
      30'000ms);
}

TEST(Abort, WithoutAReason) {
  Scene scene;
  scene.play(
      [](Rank& rank, Round& round) {
        if (rank.rank() == 0) {
          rank.group.abort("");
        } else {
          const Received received = rank.exchange.dispatch(round.input());
        }
        expect_words(rank.log, rank.exchange.poll().text, {"rank 0 aborted the group: no reason given"});
      },
      30'000ms);
}

/// One rank stops all exchanges of the group, not those of another group in the same process.
TEST(Abort, StaysInItsGroup) {
  Scene scene;
  const ThreadTeam other_team(3);
  scene.play(
      [&](Rank& rank, Round&) {
        Rank other(scene.test, other_team, rank.rank(), rank.log);
        if (rank.rank() == 2) rank.group.abort("this one only");
        other.run(scene.answers);
        if (other.group.poll().code != StatusCode::ok) rank.log.add("the other group was hit");
      },
      30'000ms);
}

TEST(Abort, ARefusedCallAndThenAbortStopsThePeersAtOnce) {
  Scene scene;
  scene.play(
      [](Rank& rank, Round& round) {
        if (rank.rank() == 1) {
          DispatchInput bad = round.input();
          bad.num_tokens = 9;
          try {
            (void)rank.exchange.dispatch(bad);
          } catch (const UsageError& error) {
            rank.group.abort(error.what());
          }
          return;
        }
        const Received received = rank.exchange.dispatch(round.input());
        expect_words(rank.log, rank.exchange.poll().text, {"rank 1 aborted", "num_tokens = 9"});
      },
      30'000ms);
}

}  // namespace
}  // namespace crossdock::testing
