// SPDX-License-Identifier: Apache-2.0
// Blocks that wait leave room for what the peers may have to run first: other calls of the group in another order, kernels of
// the caller, a collective. On the CPU the blocks of all launches of a rank share a pretended device of few multiprocessors.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "fiber/fiber_machine.hpp"
#include "platform/cpu/sanitizers.hpp"
#include "platform/cpu/stream.hpp"
#include "support/fiber_launch.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

constexpr int kSms = 9;
constexpr bool kSlow = XD_ASAN || XD_TSAN;

/// A collective of others, as NCCL runs it: a block waits until the same block of every other rank has begun.
class Collective {
 public:
  Collective(int num_ranks, int num_blocks) : begun_(num_ranks * num_blocks), blocks_(num_blocks) {}

  void enqueue(Stream& stream, Multiprocessors& sms) {
    struct Nothing {};
    platform::cpu::enqueue_on(stream.handle(), [this, &sms] {
      run_fibers<32, Nothing>({blocks_, 32}, [this](auto& m, Nothing&) { meet(m); }, {0, &sms});
    });
  }

 private:
  template <class M>
  void meet(M& m) {
    if (m.thread() == 0) m.add_acq_rel(&arrived_, 1);
    for (const std::uint64_t start = m.now_ns(); m.add_acq_rel(&arrived_, 0) < static_cast<std::uint32_t>(begun_);) {
      if (m.now_ns() - start > 20'000'000'000u) throw std::logic_error("the collective waited for ever");
      m.pause();
    }
  }
  const int begun_, blocks_;
  std::uint32_t arrived_ = 0;
};

struct Setting {
  int num_calls;           // under way at once, each on a stream of its own
  int num_waiting_blocks;  // of each
  int num_blocks;
  int collective_blocks = 0;
};

/// Ranks enqueue as many calls as there are streams, each rank in another order. Empty if every answer is right.
std::string play(const TestCase& test, const Setting& s, std::chrono::milliseconds deadline = kPatience) {
  const Answers answers = answers_of(test);
  std::vector<std::unique_ptr<Multiprocessors>> sms;
  for (int r = 0; r < test.num_ranks; ++r) sms.push_back(std::make_unique<Multiprocessors>(kSms));
  Collective collective(test.num_ranks, s.collective_blocks);
  std::vector<ThreadTeam> teams;
  for (int c = 0; c < s.num_calls; ++c) teams.emplace_back(test.num_ranks);
  Log log;
  run_threads(test.num_ranks, log, [&](int r) {
    std::vector<std::unique_ptr<Rank>> ranks;
    std::vector<std::unique_ptr<Round>> rounds;
    std::vector<std::unique_ptr<Stream>> streams;
    for (int c = 0; c < s.num_calls; ++c) {
      ranks.push_back(std::make_unique<Rank>(test, teams[c], r, log, deadline));
      use_fibers(
          ranks[c]->exchange,
          {.width = 32, .num_blocks = s.num_blocks, .num_waiting_blocks = s.num_waiting_blocks, .num_threads = 64},
          sms[r].get());
      rounds.push_back(std::make_unique<Round>(test, answers, r));
      streams.push_back(std::make_unique<Stream>(test.backend));
    }
    Stream others(test.backend);
    std::vector<int> order(s.num_calls);
    for (int c = 0; c < s.num_calls; ++c) order[c] = r % 2 ? s.num_calls - 1 - c : c;
    if (s.collective_blocks && r % 2) collective.enqueue(others, *sms[r]);
    for (const int c : order) {
      Received received = ranks[c]->exchange.dispatch(rounds[c]->input(), streams[c]->options());
      const CombineInput from = rounds[c]->run_experts(received, streams[c]->handle());
      rounds[c]->spoil_output(streams[c]->handle());
      ranks[c]->combine(std::move(received), from, rounds[c]->output(), streams[c]->handle());
      std::this_thread::sleep_for(std::chrono::milliseconds(r * 3));
    }
    if (s.collective_blocks && r % 2 == 0) collective.enqueue(others, *sms[r]);
    for (int c = 0; c < s.num_calls; ++c) {
      streams[c]->synchronize();
      if (const Status status = ranks[c]->exchange.poll(); status.fatal) return log.add(status.text);
      rounds[c]->check_output(log);
    }
    others.synchronize();
  });
  return log.text();
}

TestCase case_of_layout(int n) {
  TestCase test = small_case(2);
  test.config.layout = static_cast<Layout>(n % 3);
  test.config.max_tokens_per_rank = 70;
  test.config.num_experts = 10;
  test.recipe.routing = oracle::Routing::mixed;
  test.recipe.tokens = {70, 33};
  set_path(test.config, n % 2 ? Path::zero_copy : Path::staged);
  return test;
}

TEST(WhoMayWait, CallsInOppositeOrders) {
  for (const int calls : {4, 2})
    for (int n = 0; n < (kSlow ? 4 - calls : 6); ++n) {
      const int waiting = (kSms - 1) / calls;
      EXPECT_EQ(play(case_of_layout(n), {.num_calls = calls, .num_waiting_blocks = waiting, .num_blocks = kSms}), "");
      EXPECT_EQ(play(case_of_layout(n), {.num_calls = calls, .num_waiting_blocks = 0, .num_blocks = waiting}), "")
          << "whole calls of few blocks";
    }
}

TEST(WhoMayWait, BesideACollective) {
  for (int n = 0; n < (kSlow ? 1 : 6); ++n)
    EXPECT_EQ(
        play(case_of_layout(n), {.num_calls = 2, .num_waiting_blocks = 3, .num_blocks = kSms, .collective_blocks = 3}),
        "");
}

/// The tests above can fail: grids that fill the device wait for each other for ever.
TEST(WhoMayWait, GridsThatFillTheDeviceStandStill) {
  const Setting full{.num_calls = 2, .num_waiting_blocks = 0, .num_blocks = kSms};
  const std::string text = play(case_of_layout(0), full, std::chrono::milliseconds(300));
  EXPECT_NE(text.find("more calls under way at once than max_concurrent_calls = 2"), std::string::npos) << text;
}

TEST(WhoMayWait, SettingsThatCannotBe) {
  const ThreadTeam one(1);
  GroupOptions options = options_of(BackendKind::cpu, 0);
  options.max_concurrent_calls = 0;
  try {
    Group::join(one, 0, options);
    FAIL() << "0 concurrent calls were taken";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("max_concurrent_calls = 0; must be 1 or more"), std::string::npos);
  }
}

TEST(WhoMayWait, SettingsThatDiffer) {
  for (const bool calls : {false, true}) {
    Log log;
    int refused = 0;
    std::mutex mutex;
    run_threads(2, log, [&, team = ThreadTeam(2)](int r) {
      GroupOptions options = options_of(BackendKind::cpu, r);
      (calls ? options.max_concurrent_calls : options.reserved_sms) = 1 + r;
      try {
        Group::join(team, r, options);
      } catch (const ConfigError& error) {
        const std::lock_guard lock(mutex);
        const std::string text = error.what(), name = calls ? "max_concurrent_calls = " : "reserved_sms = ";
        const std::string values = name + std::to_string(1 + r) + " here and " + std::to_string(2 - r);
        refused += text.find(values) != std::string::npos;
        if (text.find(values) == std::string::npos) log.add(text);
      }
    });
    EXPECT_EQ(log.text(), "");
    EXPECT_EQ(refused, 2);
  }
}

}  // namespace
}  // namespace crossdock::testing
