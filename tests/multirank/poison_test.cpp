// SPDX-License-Identifier: Apache-2.0
// What a rank does once it has found poison: it passes it on, signals nothing, and calls no result a success that it has read
// while a failed peer may have overwritten it.
#include <gtest/gtest.h>

#include <functional>

#include "kernels/combine/combine_device.hpp"
#include "kernels/launch/launch_cpu.hpp"
#include "op/exchange_state.hpp"
#include "support/fiber_launch.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

using namespace std::chrono_literals;

constexpr sync::Poison kAborted{StatusCode::aborted, Edge::poison, 0, 0};

sync::Control* control_of(Rank& rank, int of) {
  const detail::ExchangeState& e = state_of(rank.exchange);
  return e.group->faults(&e.report()).control[of];
}
void poison(Rank& rank) {
  __atomic_store_n(&control_of(rank, rank.rank())->poison[0], kAborted.word(), __ATOMIC_RELEASE);
}

/// Word `idx` of those that rank `by` keeps at rank `at`, `count` for each source.
std::uint64_t word_at(Rank& rank, int at, std::uint64_t region, int by, int count, int idx) {
  const kernels::Call call = state_of(rank.exchange).call(0, 0);
  return __atomic_load_n(call.peers.remote<std::uint64_t>(at, region) + by * count + idx, __ATOMIC_ACQUIRE);
}

/// Of three ranks, rank 1 alone finds the poison of rank 0, before it dispatches; in a whole call and in steps.
void play(bool in_steps, const std::function<void(Rank&)>& look) {
  TestCase test = small_case(3);
  test.config.num_blocks = in_steps ? 2 : 0;
  const Answers answers = answers_of(test);
  Log log;
  std::atomic<int> done{0};
  run_ranks(test, log, [&](Rank& rank) {
    const WhenAllAreThrough leave{done, 3};  // rank 1 looks at their memory
    if (rank.rank() != 1) return;
    Round round(test, answers, 1);
    poison(rank);
    const Received received = rank.exchange.dispatch(round.input());
    look(rank);
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Poison, IsPassedOnByWhoeverFindsIt) {
  for (const bool in_steps : {false, true})
    play(in_steps, [](Rank& rank) {
      for (int r = 0; r < 3; ++r)
        if (control_of(rank, r)->poison[1] != kAborted.word()) rank.log.add("rank ", r, " has no poison of rank 1");
    });
}

TEST(Poison, ARankThatFindsItSignalsNothing) {
  for (const bool in_steps : {false, true})
    play(in_steps, [](Rank& rank) {
      const kernels::Call call = state_of(rank.exchange).call(0, 0);
      for (int r = 0; r < 3; ++r) {
        for (int d = 0; d <= 3; ++d)
          if (word_at(rank, r, call.buffer_set.counts_words, 1, 4, d)) rank.log.add("counts of rank 1 at rank ", r);
        if (word_at(rank, r, call.buffer_set.done_words, 1, 1, 0)) rank.log.add("done of rank 1 at rank ", r);
      }
    });
}

/// A pull writes no combine slots, but its weights do: they wait for `enter` as rows would.
TEST(Poison, WeightsOfAPullWaitForEnter) {
  for (const bool in_steps : {false, true}) {
    TestCase test = small_case(2);
    test.config.zero_copy = true;
    test.config.num_blocks = in_steps ? 2 : 0;
    test.config.combine_topk_weights = test.combine_topk_weights = true;
    const Answers answers = answers_of(test);
    Log log;
    std::atomic<int> done{0};
    run_ranks(test, log, [&](Rank& rank) {
      const WhenAllAreThrough leave{done, 2};
      Round round(test, answers, rank.rank());
      const auto [plan, rows] = rank.run_and_keep(round);
      if (rank.rank() == 0) return;
      rank.group.set_deadline(200ms);
      rank.exchange.combine(plan, rows, round.output());
      const Status status = rank.exchange.poll();
      if (status.edge != Edge::enter || status.peer != 0) log.add("not lost in enter: ", status.text);
    });
    EXPECT_EQ(log.text(), "");
  }
}

/// The CPU's machine, but the first read of a row that `spoils` accepts lets a peer fail.
struct Spy : platform::cpu::ScalarMachine {
  static thread_local std::function<void(const void*)> on_read;
  static platform::Bytes16 load16_streaming(const void* from) {
    if (on_read) on_read(from);
    return ScalarMachine::load16_streaming(from);
  }
};
thread_local std::function<void(const void*)> Spy::on_read;

void combine_on_spy(platform::Geometry, StreamHandle, const kernels::CombineArgs& args) {
  Spy machine;
  kernels::combine<Dtype::bf16, CombineQuant::none, false>(machine, args);
}

/// Rows that a peer's caller may overwrite once that peer has failed: those that are pulled, and the combine slots of an
/// exchange that hands them out.
TEST(Poison, ASumLooksAgainAfterItsLastRead) {
  for (const bool pulls : {true, false})
    for (const bool in_steps : {false, true}) {
      TestCase test = small_case(2);
      test.config.num_blocks = in_steps ? 2 : 0;
      test.config.zero_copy = pulls;
      const Answers answers = answers_of(test);
      test.config.fused = !pulls;  // its rows are sent all the same
      Log log;
      run_ranks(test, log, [&](Rank& rank) {
        Round round(test, answers, rank.rank());
        Received received = rank.exchange.dispatch(round.input());
        const Buffer rows(test.backend, received.tokens().row_capacity * row_bytes_of(Dtype::bf16, test.config.hidden));
        const CombineInput from{.rows = pulls ? received.combine_buffer().data : rows.data()};
        detail::ExchangeState& e = state_of(rank.exchange);
        kernels::LaunchTable spied = *e.launches;
        if (rank.rank() == 0) {
          spied.combine[static_cast<int>(Dtype::bf16)][0][0] = combine_on_spy;
          e.launches = &spied;
          const kernels::Call call = e.call(0, 0);
          const auto* first = call.peers.remote<std::byte>(
              pulls ? 1 : 0, pulls ? call.buffer_set.combine_rows : call.buffer_set.combine_slots);
          const std::int64_t bytes = pulls ? received.combine_buffer().num_rows * e.shape.combine_row_bytes
                                           : std::int64_t{e.shape.combine_slots} * e.shape.wire_row_bytes;
          Spy::on_read = [&rank, first, bytes](const void* p) {
            const auto* read = static_cast<const std::byte*>(p);
            if (read >= first && read < first + bytes) poison(rank);
          };
        }
        rank.exchange.combine(std::move(received), from, round.output());
        Spy::on_read = nullptr;
        const StatusCode code = rank.exchange.poll().code;
        if (rank.rank() == 0 && code != StatusCode::aborted)
          log.add(pulls ? "pull" : "push", in_steps ? " in steps" : "", ": ", name_of(code));
        e.launches = &kernels::launches_of(BackendKind::cpu);
      });
      EXPECT_EQ(log.text(), "");
    }
}

/// The kernel that crosses the link is enqueued already: peers would wait for the next epochs of this rank for ever.
TEST(Poison, ALaterLaunchThatFailsEndsTheGroup) {
  TestCase test = small_case(2);
  test.config.layout = Layout::contiguous;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    detail::ExchangeState& e = state_of(rank.exchange);
    kernels::LaunchTable failing = *e.launches;
    failing.expert_rows = [](platform::Geometry, StreamHandle, const kernels::ExpertRowsArgs&) {
      throw SystemError("no resources");
    };
    if (rank.rank() == 0) e.launches = &failing;
    try {
      (void)rank.exchange.dispatch(round.input());
      if (rank.rank() == 0) log.add("the failure was not thrown");
    } catch (const SystemError& error) {
      if (std::string(error.what()) != "no resources") log.add(error.what());
    }
    e.launches = &kernels::launches_of(BackendKind::cpu);
    try {
      (void)rank.exchange.dispatch(round.input());
      if (rank.exchange.poll().code != StatusCode::aborted) log.add("rank ", rank.rank(), " goes on");
    } catch (const AbortedError& error) {
      if (std::string(error.what()).find("dispatch could launch 1 of its kernels only: no resources") ==
          std::string::npos)
        log.add(error.what());
    }
  });
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace crossdock::testing
