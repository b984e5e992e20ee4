// SPDX-License-Identifier: Apache-2.0
// Destructors are local, closing twice is legal, memory outlives its owner while a peer may touch it, nothing is leaked.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

using namespace std::chrono_literals;

/// A rank leaves right after its last call, while slow peers still wait for it and read its memory (zero-copy: pull).
TEST(Lifetimes, ARankLeavesWhilePeersStillWork) {
  for (const Path path : {Path::staged, Path::zero_copy, Path::fused}) {
    TestCase test = small_case(4);
    set_path(test.config, path);
    const Answers answers = answers_of(test);
    for (int leaver = 0; leaver < 4; ++leaver) {
      Log log;
      const ThreadTeam team(4);
      run_threads(4, log, [&](int r) {
        Stream stream;
        std::optional<Rank> rank(std::in_place, test, team, r, log);
        Round round(test, answers, r);
        CallOptions options;
        options.stream = stream.handle();
        if (r != leaver) stream.pause(20ms);
        Received received = rank->exchange.dispatch(round.input(), options);
        const CombineInput from = round.run_experts(received, stream.handle());
        if (r != leaver) stream.pause(20ms);
        rank->combine(std::move(received), from, round.output(), stream.handle());
        if (r == leaver) stream.synchronize(), rank.reset();
        stream.synchronize();
        round.check_output(log);
      });
      ASSERT_EQ(log.text(), "");
    }
  }
}

TEST(Lifetimes, ClosingTwiceIsLegalAndCallsAfterItAreRefused) {
  const TestCase test = small_case(2);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    rank.run(answers);
    Received received = rank.exchange.dispatch(round.input());
    const Plan plan = received.retain_plan();
    const CombineInput from = round.run_experts(received);
    const auto refused = [&](const char* word, auto&& call) {
      try {
        call();
        log.add("not refused after close: ", word);
      } catch (const StateError& error) {
        for (const std::string& w : {std::string(word), std::string("closed"), "rank " + std::to_string(rank.rank())})
          if (std::string(error.what()).find(w) == std::string::npos) log.add(w, " missing in: ", error.what());
      }
    };
    rank.exchange.close();
    rank.exchange.close();
    refused("dispatch", [&] { (void)rank.exchange.dispatch(round.input()); });
    refused("combine", [&] { rank.exchange.combine(std::move(received), from, round.output()); });
    refused("combine", [&] { rank.exchange.combine(plan, from, round.output()); });
    Exchange again(rank.group, test.config);  // the group is open
    run_calls_at_once(again);
    (void)again.dispatch(round.input());
    rank.group.close();
    rank.group.close();
    refused("dispatch", [&] { (void)again.dispatch(round.input()); });
    refused("Exchange", [&] { Exchange(rank.group, test.config); });
    rank.group.abort("too late");  // nobody is left to be told
  });
  EXPECT_EQ(log.text(), "");
}

/// What keeps the memory of an exchange alive.
struct Owners {
  std::optional<Group> group;
  std::optional<Exchange> exchange;
  std::optional<Received> received;
  std::optional<Plan> plan;

  void give_up(const std::vector<int>& order) {
    for (const int what : order) {
      if (what == 0) group.reset();
      if (what == 1) exchange.reset();
      if (what == 2) received.reset();
      if (what == 3) plan.reset();
    }
  }
};

/// body(order, log), for every order in which four owners can be given up.
void in_every_order(const std::function<void(const std::vector<int>&, Log&)>& body) {
  std::vector<int> order = {0, 1, 2, 3};
  do {
    Log log;
    body(order, log);
    ASSERT_EQ(log.text(), "");
  } while (std::next_permutation(order.begin(), order.end()));
}

TestCase two_in_flight() {
  TestCase test = small_case(2);
  test.config.max_in_flight = 2;
  return test;
}

TEST(Lifetimes, AnyOrderOfDestruction) {
  const TestCase test = two_in_flight();
  const Answers answers = answers_of(test);
  in_every_order([&](const std::vector<int>& order, Log& log) {
    const ThreadTeam team(2);
    run_threads(2, log, [&](int r) {
      Owners owners;
      owners.group.emplace(Group::join(team, r, options_of(test.backend, r)));
      owners.exchange.emplace(*owners.group, test.config);
      run_calls_at_once(*owners.exchange);
      Round round(test, answers, r);
      owners.received.emplace(owners.exchange->dispatch(round.input()));
      owners.plan.emplace(owners.received->retain_plan());
      owners.give_up(order);
    });
  });
}

/// All ranks, in threads.
void leave_under_way(const TestCase& test, const Answers& answers, Log& log) {
  const ThreadTeam team(test.num_ranks);
  Gate all_gone(test.num_ranks);
  run_threads(test.num_ranks, log,
              [&](int r) { leave_under_way(std::make_unique<Rank>(test, team, r, log), answers, all_gone); });
}

TEST(Lifetimes, AnExchangeMayGoWhileItsCallsAreUnderWay) {
  int run = 0;
  for (const Path path : {Path::staged, Path::zero_copy, Path::fused})
    for (const Layout layout : {Layout::token_major, Layout::expert_major, Layout::contiguous}) {
      TestCase test = small_case(3);
      set_path(test.config, path);
      test.config.layout = layout;
      if (!supports(test.config, 3)) continue;
      Log log;
      leave_under_way(test, answers_of(test), log);
      ASSERT_EQ(log.text(), "") << name_of(path) << ", " << name_of(layout);
      ++run;
    }
  EXPECT_EQ(run, 7);  // fused: token_major only
}

/// Whoever of group, exchange, Received and plan goes last takes the memory along.
TEST(Lifetimes, AnyOrderOfDestructionUnderWay) {
  const TestCase test = two_in_flight();
  const Answers answers = answers_of(test);
  in_every_order([&](const std::vector<int>& order, Log& log) {
    const ThreadTeam team(2);
    Gate all_gone(2);
    run_threads(2, log, [&](int r) {
      Stream stream;
      Round round(test, answers, r), unused(test, answers, r);
      round.spoil_output();
      Owners owners;
      owners.group.emplace(Group::join(team, r, options_of(test.backend, r)));
      owners.exchange.emplace(*owners.group, test.config);
      all_gone.hold_up(stream);
      Received combined = owners.exchange->dispatch(round.input(), stream.options());
      owners.plan.emplace(combined.retain_plan());
      const CombineInput from = round.run_experts(combined, stream.handle());
      owners.exchange->combine(std::move(combined), from, round.output(), stream.options());
      owners.exchange->combine(*owners.plan, from, round.output(), stream.options());
      owners.received.emplace(owners.exchange->dispatch(unused.input(), stream.options()));
      owners.give_up(order);
      all_gone.arrive();
      stream.synchronize();
      round.check_output(log);
    });
  });
}

TEST(Lifetimes, ATeamMayGoFirst) {
  const TestCase test = small_case(2);
  const Answers answers = answers_of(test);
  auto team = std::make_unique<ThreadTeam>(2);
  Log log;
  std::atomic<int> joined{0};
  run_threads(2, log, [&](int r) {
    Rank rank(test, *team, r, log);
    if (++joined == 2) team.reset();
    while (joined < 2) std::this_thread::yield();
    rank.run(answers);
    Exchange another(rank.group, test.config);  // still collective over what the team left
  });
  EXPECT_EQ(log.text(), "");
}

int open_files() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) count += entry.exists() || true;
  return count;
}

/// Bytes of mappings of a kind that the library makes; the heap and stacks are left out.
std::uint64_t mapped_bytes(const std::string& kind) {
  std::ifstream maps("/proc/self/maps");
  [[maybe_unused]] std::uint64_t bytes = 0;  // sanitizers keep memory of their own
  for (std::string line; std::getline(maps, line);) {
    if (line.find(kind) == std::string::npos) continue;
    const std::size_t dash = line.find('-');
    bytes += std::stoull(line.substr(dash + 1), nullptr, 16) - std::stoull(line.substr(0, dash), nullptr, 16);
  }
  return bytes;
}

std::uint64_t virtual_bytes() {
  std::ifstream status("/proc/self/statm");
  std::uint64_t pages = 0;
  status >> pages;
  return pages * 4096;
}

TEST(Lifetimes, AHundredCyclesLeakNothing) {
  TestCase test = small_case(3);
  test.config.max_tokens_per_rank = 64;
  test.config.hidden = 1024;  // an arena of a megabyte
  const Answers answers = answers_of(test);
  int files = 0;
  [[maybe_unused]] std::uint64_t bytes = 0;  // sanitizers keep memory of their own
  for (int cycle = 0; cycle < 100; ++cycle) {
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      if (cycle % 10 == 0) rank.run(answers);
      if (cycle % 2) rank.exchange.close(), rank.group.close();
    });
    ASSERT_EQ(log.text(), "");
    if (cycle == 9) files = open_files(), bytes = virtual_bytes();
  }
  EXPECT_EQ(open_files(), files);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(virtual_bytes(), bytes + (std::uint64_t{48} << 20));  // one leaked arena per cycle would be 300 MB
#endif
  EXPECT_EQ(mapped_bytes("memfd:crossdock"), 0u);
}

/// What was kept for calls under way is freed by those who come later.
TEST(Lifetimes, AHundredLeftUnderWayLeakNothing) {
  TestCase test = small_case(3);
  test.config.max_tokens_per_rank = 2048;  // large arenas, small batches
  test.recipe.tokens = {64, 64, 64};
  test.config.hidden = 160;  // a max pageable copy waits on the host for what the stream waits for
  const Answers answers = answers_of(test);
  [[maybe_unused]] std::uint64_t bytes = 0;
  std::uint64_t free = 0;
  for (int cycle = 0; cycle < 100; ++cycle) {
    Log log;
    leave_under_way(test, answers, log);
    ASSERT_EQ(log.text(), "");
    if (cycle == 9) bytes = virtual_bytes(), free = free_device_bytes(test.backend);
  }
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(virtual_bytes(), bytes + (std::uint64_t{48} << 20));
#endif
  const std::uint64_t now = free_device_bytes(test.backend);  // of a GPU; a leaked arena of a rank is some MiB
  EXPECT_LT(free > now ? free - now : 0, std::uint64_t{48} << 20);
}

TEST(Lifetimes, ExchangesComeAndGoInOneGroup) {
  const TestCase test = small_case(3);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    for (int cycle = 0; cycle < 30; ++cycle) {
      TestCase other = test;
      other.config.hidden = 128;
      other.config.scale_bytes = cycle;
      Exchange exchange(rank.group, other.config);
      check_bill(exchange.memory(), other.config, 3, rank.group.backend(), log);
      rank.run(answers);
    }
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Lifetimes, TwoGroupsAtOnce) {
  const TestCase one = small_case(3);
  TestCase two = small_case(2);
  two.config.layout = Layout::contiguous;
  const Answers first = answers_of(one), second = answers_of(two);
  Log log;
  std::thread other([&] {
    run_ranks(two, log, [&](Rank& rank) {
      for (int n = 0; n < 50; ++n) rank.run(second);
    });
  });
  run_ranks(one, log, [&](Rank& rank) {
    for (int n = 0; n < 50; ++n) rank.run(first);
  });
  other.join();
  EXPECT_EQ(log.text(), "");
}

/// Ranks of two groups in the same threads, calls interleaved.
TEST(Lifetimes, OneThreadInTwoGroups) {
  const TestCase test = small_case(3);
  const Answers answers = answers_of(test);
  const ThreadTeam second(3);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Rank other(test, second, (rank.rank() + 1) % 3, log);
    for (int n = 0; n < 5; ++n) rank.run(answers), other.run(answers);
  });
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace crossdock::testing
