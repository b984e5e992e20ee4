// SPDX-License-Identifier: Apache-2.0
// Ranks that disagree are told when the exchange is made, by member and rank; nothing hangs.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <stdexcept>

#include "support/config_members.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

/// Every rank makes an exchange of its own config; gives the text of each refusal, empty if there was none.
std::vector<std::string> texts_of(const std::vector<Config>& configs, Log& log) {
  const int num_ranks = static_cast<int>(configs.size());
  std::vector<std::string> texts(configs.size());
  const ThreadTeam team(num_ranks);
  run_threads(num_ranks, log, [&](int r) {
    GroupOptions options;
    options.backend = BackendKind::cpu;
    options.deadline = kPatience;
    const Group group = Group::join(team, r, options);
    try {
      const Exchange exchange(group, configs[r]);
    } catch (const ConfigError& error) {
      texts[r] = error.what();
    }
    const Exchange after(group, configs[0]);  // the group is as good as before
  });
  return texts;
}

bool has(const std::string& text, const std::string& word) { return text.find(word) != std::string::npos; }

TEST(Agreement, EveryMemberThatDiffersIsNamedWithItsRank) {
  for (const ConfigMember& member : kConfigMembers) {
    const Config base = base_of(member, small_case(3).config);
    std::vector<Config> configs(3, base);
    member.change(configs[1]);
    Log log;
    const std::vector<std::string> texts = texts_of(configs, log);
    EXPECT_EQ(log.text(), "") << member.name;
    for (int r = 0; r < 3; ++r) {
      const std::string other = r == 1 ? "config of rank 0 differs" : "config of rank 1 differs";
      EXPECT_TRUE(has(texts[r], other)) << texts[r];
      EXPECT_TRUE(has(texts[r], "rank " + std::to_string(r))) << texts[r];
      EXPECT_TRUE(has(texts[r], std::string(": ") + member.name + " = ")) << member.name << " in " << texts[r];
      EXPECT_TRUE(has(texts[r], " here and ")) << texts[r];
    }
  }
}

TEST(Agreement, AConfigThatOneRankCannotServeIsToldToAll) {
  std::vector<Config> configs(3, small_case(3).config);
  configs[2].hidden = 129;
  Log log;
  const std::vector<std::string> texts = texts_of(configs, log);
  EXPECT_EQ(log.text(), "");
  EXPECT_TRUE(has(texts[2], "hidden = 129")) << texts[2];
  EXPECT_TRUE(has(texts[0], "rank 2")) << texts[0];
  EXPECT_TRUE(has(texts[1], "rank 2")) << texts[1];
}

TEST(Agreement, AMemberThatDoesNotComeIsNamed) {
  const ThreadTeam team(3);
  Log log;
  run_threads(2, log, [&](int r) {
    GroupOptions options;
    options.deadline = std::chrono::milliseconds(100);
    options.backend = BackendKind::cpu;
    try {
      const Group group = Group::join(team, r, options);
      log.add("joined without rank 2");
    } catch (const PeerLostError& error) {
      if (!has(error.what(), "rank 2")) log.add(error.what());
    }
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Agreement, AMemberThatMakesNoExchangeIsNamed) {
  const TestCase test = small_case(3);
  const ThreadTeam team(3);
  Log log;
  run_threads(3, log, [&](int r) {
    GroupOptions options;
    options.deadline = std::chrono::milliseconds(200);
    options.backend = BackendKind::cpu;
    const Group group = Group::join(team, r, options);
    if (r == 1) return;
    try {
      const Exchange exchange(group, test.config);
      log.add("made without rank 1");
    } catch (const PeerLostError& error) {
      if (!has(error.what(), "rank 1")) log.add(error.what());
    }
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Agreement, TwoThreadsWithOneRank) {
  const ThreadTeam team(2);
  Log log;
  std::atomic<int> refused{0};
  run_threads(2, log, [&](int) {
    GroupOptions options;
    options.deadline = std::chrono::milliseconds(300);
    options.backend = BackendKind::cpu;
    try {
      const Group group = Group::join(team, 0, options);
    } catch (const Error& error) {
      ++refused;
      if (!has(error.what(), "rank 0")) log.add(error.what());
    }
  });
  EXPECT_EQ(log.text(), "");
  EXPECT_EQ(refused, 2);
}

TEST(Agreement, ACallbackThatMixesUpTheRanks) {
  Log log;
  const ThreadTeam team(1);
  const AllGather wrong = [](const void* mine, std::size_t bytes, void* all) {
    std::memcpy(all, mine, bytes);
    std::memcpy(static_cast<char*>(all) + bytes, mine, bytes);  // rank 0 twice
  };
  try {
    GroupOptions options;
    options.backend = BackendKind::cpu;
    const Group group = Group::join(0, 2, wrong, options);
    FAIL() << "joined";
  } catch (const UsageError& error) {
    EXPECT_TRUE(has(error.what(), "entry 1")) << error.what();
    EXPECT_TRUE(has(error.what(), "rank order")) << error.what();
  }
}

TEST(Agreement, ACallbackThatThrowsIsPassedOn) {
  const AllGather broken = [](const void*, std::size_t, void*) { throw std::runtime_error("no network today"); };
  try {
    GroupOptions options;
    options.backend = BackendKind::cpu;
    const Group group = Group::join(0, 2, broken, options);
    FAIL() << "joined";
  } catch (const std::exception& error) {
    EXPECT_TRUE(has(error.what(), "no network today")) << error.what();
  }
}

TEST(Agreement, RanksAndNumbersOfRanks) {
  GroupOptions options;
  options.backend = BackendKind::cpu;
  const auto refusal = [](auto&& call) -> std::string {
    try {
      call();
      return "nothing was refused";
    } catch (const UsageError& error) {
      return error.what();
    }
  };
  EXPECT_TRUE(has(refusal([&] { ThreadTeam(0); }), "num_ranks is 0"));
  EXPECT_TRUE(has(refusal([&] { ThreadTeam(9); }), "num_ranks is 9"));
  const ThreadTeam team(2);
  EXPECT_TRUE(has(refusal([&] { (void)Group::join(team, 2, options); }), "rank = 2; must be 0 to 1"));
  EXPECT_TRUE(has(refusal([&] { (void)Group::join(team, -1, options); }), "rank = -1; must be 0 to 1"));
  EXPECT_TRUE(has(refusal([&] {
                    (void)Group::join(
                        0, 9, [](const void*, std::size_t, void*) {}, options);
                  }),
                  "num_ranks = 9; must be 1 to 8"));
  EXPECT_TRUE(has(refusal([&] { (void)Group::join(0, 1, AllGather(), options); }), "all_gather is empty"));
  EXPECT_TRUE(has(refusal([&] { (void)Group::rendezvous("no/slash", 0, 1, options); }), "no/slash"));
}

/// What only one rank meets is told to all at once, not found by their deadline.
TEST(Agreement, ARankThatCannotOpenItsDeviceTellsTheOthers) {
  const ThreadTeam team(3);
  Log log;
  const auto began = std::chrono::steady_clock::now();
  run_threads(3, log, [&](int r) {
    GroupOptions options;
    options.backend = r == 1 ? BackendKind::cuda : BackendKind::cpu;
    options.device = 12345;
    options.deadline = std::chrono::seconds(60);
    try {
      const Group group = Group::join(team, r, options);
      log.add("joined");
    } catch (const TopologyError& error) {
      if (r != 1 && !has(error.what(), "rank 1 failed")) log.add(error.what());
    }
  });
  EXPECT_EQ(log.text(), "");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(30));
}

}  // namespace
}  // namespace crossdock::testing
