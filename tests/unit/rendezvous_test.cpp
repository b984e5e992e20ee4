// SPDX-License-Identifier: Apache-2.0
// Processes that share only a name: they meet, gather, and when one is missing, wrong or killed, all say which.
#include "memory/rendezvous.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>

#include "crossdock/error.hpp"
#include "memory/bootstrap.hpp"
#include "memory/rendezvous_files.hpp"
#include "memory/rendezvous_messages.hpp"
#include "unit/processes.hpp"

namespace crossdock::memory {
namespace {

using std::chrono::milliseconds;
using testing::contains;
using testing::Processes;
using testing::sleep_ms;
using testing::Verdicts;

constexpr milliseconds kLong{20000};

class RendezvousTest : public ::testing::Test {
 protected:
  RendezvousTest() { ::setenv("CROSSDOCK_RUNTIME_DIR", scratch_.path().c_str(), 1); }
  ~RendezvousTest() override { ::unsetenv("CROSSDOCK_RUNTIME_DIR"); }

  void expect_no_files() { EXPECT_EQ(scratch_.files_under(""), std::vector<std::string>{}); }

  testing::ScratchFolder scratch_;
};

/// One gather of a number that tells rank and round; "" or what is wrong.
std::string gather_once(Rendezvous& meeting, int rank, int num_ranks, int round) {
  const int mine = 1000 * round + rank;
  std::vector<int> all(num_ranks);
  meeting.all_gather(&mine, sizeof(mine), all.data());
  for (int r = 0; r < num_ranks; ++r)
    if (all[r] != 1000 * round + r) return "wrong value of rank " + std::to_string(r);
  return "";
}

void expect_all(const Verdicts& verdicts, const std::string& text) {
  for (std::size_t r = 0; r < verdicts.size(); ++r) EXPECT_EQ(verdicts[r], text) << "rank " << r;
}

TEST_F(RendezvousTest, MeetsAndGathersForEverySize) {
  for (int num = 1; num <= kMaxRanks; ++num) {
    Processes processes(num, [&](int rank) -> std::string {
      const auto meeting = Rendezvous::meet("every.size", rank, num, kLong);
      for (int round = 0; round < 20; ++round)
        if (const auto wrong = gather_once(*meeting, rank, num, round); !wrong.empty()) return wrong;
      std::vector<char> large(300000, static_cast<char>(rank)), all(large.size() * num);  // beyond any socket buffer
      meeting->all_gather(large.data(), large.size(), all.data());
      for (int r = 0; r < num; ++r)
        if (all[r * large.size() + 7] != r || all[(r + 1) * large.size() - 1] != r) return "large gather is wrong";
      meeting->all_gather(nullptr, 0, nullptr);
      return "fine";
    });
    expect_all(processes.verdicts(), "fine");
    expect_no_files();
  }
}

TEST_F(RendezvousTest, AnyOrderOfArrival) {
  for (const int last : {0, 2}) {
    Processes processes(3, [&](int rank) {
      sleep_ms(rank == last ? 150 : 5 * rank);
      const auto meeting = Rendezvous::meet("order", rank, 3, kLong);
      return gather_once(*meeting, rank, 3, 1) + "fine";
    });
    expect_all(processes.verdicts(), "fine");
  }
}

TEST_F(RendezvousTest, MissingRanksAreNamedOnAllSides) {
  Processes processes(2, [&](int i) -> std::string {
    Rendezvous::meet("missing", i * 2, 4, milliseconds{300});
    return "fine";
  });
  for (const auto& text : processes.verdicts())
    EXPECT_TRUE(contains(text, "ranks 1 and 3 did not come within 300 ms") && contains(text, scratch_.path())) << text;
  expect_no_files();
}

TEST_F(RendezvousTest, MissingRankZeroIsNamed) {
  Processes processes(2, [&](int i) -> std::string {
    Rendezvous::meet("no.zero", i + 1, 3, milliseconds{200});
    return "fine";
  });
  for (const auto& text : processes.verdicts())
    EXPECT_TRUE(contains(text, "rank 0 did not come within 200 ms")) << text;
}

TEST_F(RendezvousTest, TheFirstToLosePatienceDecides) {
  // Rank 1 comes first with a short limit, rank 0 later with a long one; rank 2 never. Rank 1 must hear about rank 2.
  Processes processes(2, [&](int rank) -> std::string {
    if (rank == 0) sleep_ms(200);
    Rendezvous::meet("patience", rank, 3, rank == 0 ? kLong : milliseconds{500});
    return "fine";
  });
  for (const auto& text : processes.verdicts())
    EXPECT_TRUE(contains(text, "rank 2 did not come within 500 ms")) << text;
}

TEST_F(RendezvousTest, GatherNamesTheRankThatStaysAway) {
  Processes processes(3, [&](int rank) -> std::string {
    const auto meeting = Rendezvous::meet("away", rank, 3, milliseconds{400});
    gather_once(*meeting, rank, 3, 0);
    if (rank == 2) return sleep_ms(1500), "asleep";
    if (rank == 0) sleep_ms(100);
    try {
      gather_once(*meeting, rank, 3, 1);
    } catch (const PeerLostError& e) {
      try {
        gather_once(*meeting, rank, 3, 2);
      } catch (const PeerLostError& again) {
        return std::string(e.what()) == again.what() ? e.what() : "another message";
      }
    }
    return "nothing was thrown";
  });
  const Verdicts verdicts = processes.verdicts();
  for (const int r : {0, 1}) EXPECT_TRUE(contains(verdicts[r], "rank 2 did not come within 400 ms")) << verdicts[r];
}

TEST_F(RendezvousTest, KilledRankIsNamedAtOnce) {
  for (const int victim : {0, 2}) {
    Processes processes(4, [&](int rank) -> std::string {
      const auto meeting = Rendezvous::meet("killed", rank, 4, kLong);
      gather_once(*meeting, rank, 4, 0);
      if (rank == victim) sleep_ms(60000);
      gather_once(*meeting, rank, 4, 1);
      return "fine";
    });
    sleep_ms(300);
    const auto start = std::chrono::steady_clock::now();
    processes.kill(victim);
    const Verdicts verdicts = processes.verdicts();
    EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds{5000});
    for (int r = 0; r < 4; ++r) {
      const std::string expected = r == victim ? "killed" : "rank " + std::to_string(victim) + " closed";
      EXPECT_TRUE(contains(verdicts[r], expected)) << verdicts[r];
    }
  }
}

TEST_F(RendezvousTest, KilledBeforeTheGroupIsComplete) {
  Processes processes(2, [&](int rank) -> std::string {
    Rendezvous::meet("early", rank, 3, kLong);
    return "fine";
  });
  sleep_ms(200);
  processes.kill(1);
  EXPECT_TRUE(contains(processes.verdicts()[0], "rank 1 left before the group was complete"));
  expect_no_files();
}

TEST_F(RendezvousTest, FilesOfAKilledRankZeroAreReplaced) {
  {
    Processes processes(1, [&](int) -> std::string {
      Rendezvous::meet("stale", 0, 2, kLong);
      return "fine";
    });
    sleep_ms(200);
    processes.kill(0);
    processes.verdicts();
  }
  EXPECT_EQ(scratch_.files_under("").size(), 2u);
  Processes processes(2, [&](int rank) {
    const auto meeting = Rendezvous::meet("stale", rank, 2, kLong);
    return gather_once(*meeting, rank, 2, 0) + "fine";
  });
  expect_all(processes.verdicts(), "fine");
  expect_no_files();
}

TEST_F(RendezvousTest, RankUsedTwiceIsToldToAll) {
  for (const int twice : {0, 1}) {
    Processes processes(4, [&](int i) -> std::string {
      sleep_ms(30 * i);
      Rendezvous::meet("twice", i == 3 ? twice : i, 4, kLong);  // rank 3 is never there
      return "fine";
    });
    for (const auto& text : processes.verdicts())
      EXPECT_TRUE(contains(text, "two processes are rank " + std::to_string(twice))) << text;
    expect_no_files();
  }
}

TEST_F(RendezvousTest, DifferentGroupSizesAreToldToAll) {
  Processes processes(3, [&](int rank) -> std::string {
    Rendezvous::meet("sizes", rank, rank == 1 ? 4 : 3, kLong);
    return "fine";
  });
  for (const auto& text : processes.verdicts())
    EXPECT_TRUE(contains(text, "rank 0 says there are 3 ranks and rank 1 says 4")) << text;
}

TEST_F(RendezvousTest, DifferentGatherSizesAreToldToAll) {
  Processes processes(3, [&](int rank) -> std::string {
    const auto meeting = Rendezvous::meet("bytes", rank, 3, kLong);
    char mine[8] = {}, all[24];
    meeting->all_gather(mine, rank == 2 ? 4 : 8, all);
    return "fine";
  });
  for (const auto& text : processes.verdicts()) EXPECT_TRUE(contains(text, "8 bytes and rank 2 4")) << text;
}

TEST_F(RendezvousTest, AnotherVersionIsToldToAll) {
  Processes processes(2, [&](int rank) -> std::string {
    if (rank == 0) return Rendezvous::meet("version", 0, 2, kLong), "fine";
    const auto folder = PrivateDirectory::open(scratch_.path(), ::geteuid());
    platform::system::UniqueFd link;
    while (!link) link = platform::system::connect_to(folder.path_to(socket_file_of("version")));
    Hello hello{{}, kRendezvousVersion + 1, 2, 1, 0, 0};
    std::memcpy(hello.magic, kRendezvousMagic, sizeof(hello.magic));
    platform::system::send_all(link.get(), &hello, sizeof(hello), platform::system::Deadline(kLong));
    Head head{};
    std::string message;
    receive_reply(link.get(), head, message, platform::system::Deadline(kLong));
    return message;
  });
  for (const auto& text : processes.verdicts())
    EXPECT_TRUE(contains(text, "version 1 of the protocol and rank 1 version 2")) << text;
}

TEST_F(RendezvousTest, StrangersDoNotDisturb) {
  Processes processes(3, [&](int i) -> std::string {
    if (i == 2) {
      const auto folder = PrivateDirectory::open(scratch_.path(), ::geteuid());
      platform::system::UniqueFd silent, noisy;
      while (!silent) silent = platform::system::connect_to(folder.path_to(socket_file_of("strangers")));
      noisy = platform::system::connect_to(folder.path_to(socket_file_of("strangers")));
      const std::string noise(1000, 'x');
      platform::system::send_all(noisy.get(), noise.data(), noise.size(), platform::system::Deadline(kLong));
      sleep_ms(400);
      return "fine";
    }
    if (i == 1) sleep_ms(200);
    const auto meeting = Rendezvous::meet("strangers", i, 2, kLong);
    return gather_once(*meeting, i, 2, 0) + "fine";
  });
  expect_all(processes.verdicts(), "fine");
}

TEST_F(RendezvousTest, ManyCyclesLeakNothing) {
  Processes processes(2, [&](int rank) -> std::string {
    Rendezvous::meet("cycle", rank, 2, kLong);
    const int before = testing::num_open_fds();
    for (int i = 0; i < 50; ++i) {
      const auto meeting = Rendezvous::meet("cycle", rank, 2, kLong);
      if (const auto wrong = gather_once(*meeting, rank, 2, i); !wrong.empty()) return wrong;
    }
    const int after = testing::num_open_fds();
    return after == before ? "fine" : "descriptors: " + std::to_string(before) + " then " + std::to_string(after);
  });
  expect_all(processes.verdicts(), "fine");
  expect_no_files();
}

TEST_F(RendezvousTest, FailuresLeakNothing) {
  const auto fail = [] { EXPECT_THROW(Rendezvous::meet("alone", 0, 2, milliseconds{10}), PeerLostError); };
  const auto fail_1 = [] { EXPECT_THROW(Rendezvous::meet("alone", 1, 2, milliseconds{10}), PeerLostError); };
  fail();
  const int before = testing::num_open_fds();
  for (int i = 0; i < 20; ++i) fail(), fail_1();
  EXPECT_EQ(testing::num_open_fds(), before);
  expect_no_files();
}

TEST_F(RendezvousTest, LongDirectoryNames) {
  const std::string longer = scratch_.path() + "/" + std::string(150, 'd');
  ASSERT_EQ(::mkdir(longer.c_str(), 0700), 0);
  ::setenv("CROSSDOCK_RUNTIME_DIR", longer.c_str(), 1);
  Processes processes(2, [&](int rank) {
    const auto meeting = Rendezvous::meet(std::string(64, 'n'), rank, 2, kLong);
    return gather_once(*meeting, rank, 2, 0) + "fine";
  });
  expect_all(processes.verdicts(), "fine");
  expect_no_files();
}

TEST_F(RendezvousTest, BadArgumentsAreRefused) {
  for (const std::string& name : {std::string(), std::string("a/b"), std::string("..\0x", 4), std::string(65, 'x')})
    EXPECT_THROW(Rendezvous::meet(name, 0, 1, kLong), UsageError) << name;
  EXPECT_THROW(Rendezvous::meet("x", 0, 0, kLong), UsageError);
  EXPECT_THROW(Rendezvous::meet("x", 0, 9, kLong), UsageError);
  EXPECT_THROW(Rendezvous::meet("x", 2, 2, kLong), UsageError);
  EXPECT_THROW(Rendezvous::meet("x", -1, 2, kLong), UsageError);
}

TEST_F(RendezvousTest, DirectoryMustBePrivate) {
  const std::string path = scratch_.path() + "/crossdock-" + std::to_string(::geteuid());
  const auto text_of_open = [&] {
    try {
      PrivateDirectory::open(scratch_.path(), ::geteuid());
    } catch (const SystemError& e) {
      return std::string(e.what());
    }
    return std::string("fine");
  };
  EXPECT_EQ(text_of_open(), "fine");
  struct stat info = {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  ASSERT_EQ(::chmod(path.c_str(), 0750), 0);
  EXPECT_TRUE(contains(text_of_open(), "with mode 0750; it must belong to uid")) << text_of_open();
  ASSERT_EQ(::chmod(path.c_str(), 0700), 0);
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(path.c_str(), 65534, 65534), 0);
    EXPECT_TRUE(contains(text_of_open(), "belongs to uid 65534")) << text_of_open();
    ASSERT_EQ(::chown(path.c_str(), 0, 0), 0);
  }
  ASSERT_EQ(::rename(path.c_str(), (path + "x").c_str()), 0);
  ASSERT_EQ(::symlink((path + "x").c_str(), path.c_str()), 0);
  EXPECT_TRUE(contains(text_of_open(), "failed: ")) << text_of_open();
  // Another owner than this process, as if somebody else had made the directory first.
  ASSERT_EQ(::mkdir((scratch_.path() + "/crossdock-12345").c_str(), 0700), 0);
  EXPECT_THROW(PrivateDirectory::open(scratch_.path(), 12345), SystemError);
}

TEST_F(RendezvousTest, MissingBaseDirectoryIsExplained) {
  ::setenv("CROSSDOCK_RUNTIME_DIR", (scratch_.path() + "/nowhere").c_str(), 1);
  try {
    Rendezvous::meet("x", 0, 2, kLong);
    FAIL() << "nothing was thrown";
  } catch (const SystemError& e) {
    EXPECT_TRUE(contains(e.what(), "set CROSSDOCK_RUNTIME_DIR to a directory of yours")) << e.what();
  }
}

TEST_F(RendezvousTest, LockIsExclusiveAndDiesWithItsHolder) {
  const auto folder = PrivateDirectory::open(scratch_.path(), ::geteuid());
  NameLock first(folder, "lock"), second(folder, "lock"), other(folder, "other");
  EXPECT_TRUE(first.try_take());
  EXPECT_FALSE(second.try_take());
  EXPECT_TRUE(other.try_take());
  first.release();
  EXPECT_TRUE(second.try_take());
  EXPECT_FALSE(first.try_take());
}

}  // namespace
}  // namespace crossdock::memory
