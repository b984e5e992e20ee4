// SPDX-License-Identifier: Apache-2.0
// Threads of one process meet, again and again, and fail together.
#include "memory/bootstrap.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "crossdock/error.hpp"

namespace crossdock {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// Runs body(rank) on a thread per rank; what each threw, or "".
template <class Body>
std::vector<std::string> on_threads(int num, Body&& body) {
  std::vector<std::string> texts(num);
  std::vector<std::thread> threads;
  for (int r = 0; r < num; ++r) {
    threads.emplace_back([&, r] {
      try {
        body(r);
      } catch (const std::exception& e) {
        texts[r] = e.what();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  return texts;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Bootstrap, NumberOfRanksIsChecked) {
  EXPECT_THROW(detail::ThreadTeamState(0), UsageError);
  EXPECT_THROW(detail::ThreadTeamState(-3), UsageError);
  EXPECT_THROW(detail::ThreadTeamState(kMaxRanks + 1), UsageError);
  for (int n = 1; n <= kMaxRanks; ++n) EXPECT_EQ(detail::ThreadTeamState(n).num_ranks(), n);
}

TEST(Bootstrap, GathersManyTimesForEverySize) {
  for (int num = 1; num <= kMaxRanks; ++num) {
    auto team = std::make_shared<detail::ThreadTeamState>(num);
    const auto texts = on_threads(num, [&](int rank) {
      const AllGather gather = memory::all_gather_of(team, rank, milliseconds{20000});
      for (int round = 0; round < 200; ++round) {
        const auto all = memory::all_gather_value(gather, num, 1000 * round + rank);
        for (int r = 0; r < num; ++r) ASSERT_EQ(all[r], 1000 * round + r);
        if (round % 50 == rank) std::this_thread::sleep_for(milliseconds{1});
        std::vector<char> mine(round % 7, static_cast<char>('a' + rank)), everybody(num * mine.size());
        gather(mine.data(), mine.size(), everybody.data());
        for (std::size_t i = 0; i < everybody.size(); ++i)
          ASSERT_EQ(everybody[i], 'a' + static_cast<int>(i / mine.size()));
      }
    });
    for (const auto& text : texts) EXPECT_EQ(text, "");
  }
}

TEST(Bootstrap, MissingRankIsNamedWithinTheDeadline) {
  detail::ThreadTeamState team(4);
  const auto start = steady_clock::now();
  const auto texts = on_threads(2, [&](int i) {
    int mine = i, all[4];
    team.all_gather(i * 2, &mine, sizeof(mine), all, milliseconds{100});
  });
  const auto took = steady_clock::now() - start;
  EXPECT_GE(took, milliseconds{100});
  EXPECT_LT(took, milliseconds{5000});
  for (const auto& text : texts) EXPECT_TRUE(contains(text, "ranks 1 and 3 did not come within 100 ms")) << text;
  // A member that comes later hears it at once.
  int mine = 1, all[4];
  try {
    team.all_gather(1, &mine, sizeof(mine), all, milliseconds{0});
    FAIL() << "nothing was thrown";
  } catch (const PeerLostError& e) {
    EXPECT_TRUE(contains(e.what(), "rank 1 of 4: ranks 1 and 3 did not come")) << e.what();
  }
}

TEST(Bootstrap, TwoThreadsAsOneRankAreFound) {
  detail::ThreadTeamState team(3);
  const auto texts = on_threads(2, [&](int) {
    int mine = 0, all[3];
    team.all_gather(1, &mine, sizeof(mine), all, milliseconds{20000});
  });
  for (const auto& text : texts) EXPECT_TRUE(contains(text, "two threads use rank 1")) << text;
  int mine = 0, all[3];
  EXPECT_THROW(team.all_gather(2, &mine, sizeof(mine), all, milliseconds{20000}), UsageError);
}

TEST(Bootstrap, RankOutOfRangeHarmsNobody) {
  detail::ThreadTeamState team(1);
  int mine = 5, all = 0;
  EXPECT_THROW(team.all_gather(1, &mine, sizeof(mine), &all, milliseconds{1}), UsageError);
  EXPECT_THROW(team.all_gather(-1, &mine, sizeof(mine), &all, milliseconds{1}), UsageError);
  team.all_gather(0, &mine, sizeof(mine), &all, milliseconds{1});
  EXPECT_EQ(all, 5);
}

TEST(Bootstrap, DifferentSizesAreFound) {
  detail::ThreadTeamState team(2);
  const auto texts = on_threads(2, [&](int rank) {
    char mine[16] = {}, all[32];
    team.all_gather(rank, mine, rank == 0 ? 8 : 16, all, milliseconds{20000});
  });
  for (const auto& text : texts)
    EXPECT_TRUE(contains(text, "rank 1 brings 16 bytes") || contains(text, "and rank 1 16")) << text;
}

TEST(Bootstrap, LateRankIsWaitedForWithoutALimit) {
  detail::ThreadTeamState team(2);
  const auto texts = on_threads(2, [&](int rank) {
    if (rank == 1) std::this_thread::sleep_for(milliseconds{50});
    int mine = rank, all[2] = {-1, -1};
    team.all_gather(rank, &mine, sizeof(mine), all, milliseconds{0});
    ASSERT_EQ(all[1 - rank], 1 - rank);
  });
  for (const auto& text : texts) EXPECT_EQ(text, "");
}

TEST(Bootstrap, CallbackKeepsTheTeamAlive) {
  AllGather gather = memory::all_gather_of(std::make_shared<detail::ThreadTeamState>(1), 0, milliseconds{0});
  EXPECT_EQ(memory::all_gather_value(gather, 1, 42).at(0), 42);
}

TEST(Bootstrap, RanksInWords) {
  EXPECT_EQ(memory::ranks_in_words(0b1), "rank 0");
  EXPECT_EQ(memory::ranks_in_words(0b110), "ranks 1 and 2");
  EXPECT_EQ(memory::ranks_in_words(0b10001101), "ranks 0, 2, 3 and 7");
}

}  // namespace
}  // namespace crossdock
