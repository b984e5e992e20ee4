// SPDX-License-Identifier: Apache-2.0
// Shared pages, the identity of a process, and descriptors handed from rank to rank.
#include "memory/descriptors.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <fstream>
#include <utility>

#include "crossdock/error.hpp"
#include "memory/bootstrap.hpp"
#include "memory/rendezvous.hpp"
#include "platform/cpu/memory.hpp"
#include "platform/system/local_socket.hpp"
#include "platform/system/random_id.hpp"
#include "unit/processes.hpp"

namespace crossdock::memory {
namespace {

using platform::cpu::SharedBlock;
using platform::system::UniqueFd;
using std::chrono::milliseconds;
using testing::contains;
using testing::Processes;
using testing::sleep_ms;
using testing::Verdicts;

constexpr milliseconds kLong{20000};

TEST(SharedBlock, WholePagesOfZeros) {
  for (const bool shareable : {false, true}) {
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{4096}, std::size_t{100000}, std::size_t{5} << 20}) {
      SharedBlock block = SharedBlock::allocate(bytes, shareable);
      EXPECT_EQ(block.bytes(), platform::cpu::round_to_pages(bytes));
      EXPECT_EQ(block.bytes() % platform::cpu::page_bytes(), 0u);
      EXPECT_EQ(block.fd() >= 0, shareable);
      for (std::size_t i = 0; i < block.bytes(); i += 1000) ASSERT_EQ(block.data()[i], std::byte{0});
      block.data()[block.bytes() - 1] = std::byte{7};
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.data()) % platform::cpu::page_bytes(), 0u);
    }
    const SharedBlock none = SharedBlock::allocate(0, shareable);
    EXPECT_FALSE(none);
    EXPECT_EQ(none.bytes(), 0u);
    EXPECT_THROW(SharedBlock::allocate(~std::size_t{0}, shareable), SystemError);
    EXPECT_THROW(SharedBlock::allocate(std::size_t{1} << 60, shareable), SystemError);
  }
}

TEST(SharedBlock, OpenSeesTheSameBytes) {
  SharedBlock block = SharedBlock::allocate(3 << 20, true);
  SharedBlock view = SharedBlock::open(block.fd(), 3 << 20);
  EXPECT_EQ(view.fd(), -1);
  block.data()[12345] = std::byte{42};
  EXPECT_EQ(view.data()[12345], std::byte{42});
  block = SharedBlock();  // the owner leaves; the pages live on
  EXPECT_EQ(view.data()[12345], std::byte{42});
}

TEST(SharedBlock, MovesOnly) {
  SharedBlock a = SharedBlock::allocate(100, true);
  std::byte* data = a.data();
  SharedBlock b = std::move(a);
  EXPECT_FALSE(a);  // NOLINT: what a moved-from block looks like
  EXPECT_EQ(b.data(), data);
  b = SharedBlock::allocate(200, false);
  EXPECT_NE(b.data(), nullptr);
}

TEST(SharedBlock, OpenRefusesWhatCouldKillUs) {
  const SharedBlock block = SharedBlock::allocate(4096, true);
  EXPECT_THROW(SharedBlock::open(block.fd(), 4097), SystemError);
  const UniqueFd unsealed(::memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), 4096), 0);
  EXPECT_THROW(SharedBlock::open(unsealed.get(), 4096), SystemError);
  EXPECT_THROW(SharedBlock::open(-1, 4096), SystemError);
  EXPECT_NE(::ftruncate(block.fd(), 0), 0);
}

TEST(SharedBlock, CyclesLeakNothing) {
  const int before = testing::num_open_fds();
  for (int i = 0; i < 50; ++i) {
    const SharedBlock block = SharedBlock::allocate(1 << 20, true);
    const SharedBlock view = SharedBlock::open(block.fd(), 1 << 20);
  }
  EXPECT_EQ(testing::num_open_fds(), before);
}

TEST(ProcessId, OnePerProcessAlsoAfterFork) {
  const auto mine = platform::system::process_id128();
  EXPECT_EQ(platform::system::process_id128(), mine);
  EXPECT_NE(platform::system::random_id128(), platform::system::random_id128());
  Processes children(2, [&](int) { return hex_of(platform::system::process_id128()); });
  const Verdicts ids = children.verdicts();
  EXPECT_NE(ids[0], ids[1]);
  EXPECT_NE(ids[0], hex_of(mine));
  EXPECT_EQ(ids[0].size(), 32u);
}

class DescriptorsTest : public ::testing::Test {
 protected:
  DescriptorsTest() { ::setenv("CROSSDOCK_RUNTIME_DIR", scratch_.path().c_str(), 1); }
  ~DescriptorsTest() override { ::unsetenv("CROSSDOCK_RUNTIME_DIR"); }
  testing::ScratchFolder scratch_;
};

/// Every rank's memory begins with its number; maps what the exchange gives and looks. "fine" or what is wrong.
std::string exchange_and_look(const AllGather& gather, int rank, int num_ranks, milliseconds deadline = kLong) {
  SharedBlock mine = SharedBlock::allocate(8192, true);
  mine.data()[0] = static_cast<std::byte>(100 + rank);
  const auto fds = DescriptorExchange(gather, rank, num_ranks, deadline).exchange(mine.fd());
  for (int r = 0; r < num_ranks; ++r) {
    if (static_cast<bool>(fds[r]) != (r != rank)) return "a descriptor too many or too few";
    if (r == rank) continue;
    if ((::fcntl(fds[r].get(), F_GETFD) & FD_CLOEXEC) == 0) return "not close-on-exec";
    const SharedBlock view = SharedBlock::open(fds[r].get(), 8192);
    if (view.data()[0] != static_cast<std::byte>(100 + r)) return "not the memory of rank " + std::to_string(r);
    view.data()[1 + rank] = static_cast<std::byte>(200 + rank);
  }
  all_gather_value(gather, num_ranks, rank);
  for (int r = 0; r < num_ranks; ++r)
    if (r != rank && mine.data()[1 + r] != static_cast<std::byte>(200 + r))
      return "rank " + std::to_string(r) + " did not write";
  return "fine";
}

TEST_F(DescriptorsTest, BetweenProcessesOfEverySize) {
  for (const int num : {1, 2, 3, 5, 8}) {
    Processes processes(num, [&](int rank) {
      const AllGather gather = all_gather_of(Rendezvous::meet("handles", rank, num, kLong));
      return exchange_and_look(gather, rank, num);
    });
    for (const auto& text : processes.verdicts()) EXPECT_EQ(text, "fine");
  }
}

TEST_F(DescriptorsTest, ThreadsAndProcessesMixed) {
  Processes processes(2, [&](int process) {
    std::string texts[2];
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t) {
      threads.emplace_back([&, t] {
        try {
          const int rank = process + 2 * t;
          const AllGather gather = all_gather_of(Rendezvous::meet("mixed", rank, 4, kLong));
          texts[t] = exchange_and_look(gather, rank, 4);
        } catch (const std::exception& e) {
          texts[t] = e.what();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    return texts[0] + " " + texts[1];
  });
  for (const auto& text : processes.verdicts()) EXPECT_EQ(text, "fine fine");
}

TEST_F(DescriptorsTest, RankWithoutMemoryGivesNone) {
  Processes processes(3, [&](int rank) -> std::string {
    const AllGather gather = all_gather_of(Rendezvous::meet("none", rank, 3, kLong));
    const SharedBlock mine = SharedBlock::allocate(4096, true);
    const auto fds = DescriptorExchange(gather, rank, 3, kLong).exchange(rank == 1 ? -1 : mine.fd());
    for (int r = 0; r < 3; ++r)
      if (static_cast<bool>(fds[r]) != (r != rank && r != 1)) return "rank " + std::to_string(r) + " is wrong";
    return "fine";
  });
  for (const auto& text : processes.verdicts()) EXPECT_EQ(text, "fine");
}

TEST_F(DescriptorsTest, ManyCyclesLeakNothing) {
  Processes processes(2, [&](int rank) -> std::string {
    const AllGather gather = all_gather_of(Rendezvous::meet("cycles", rank, 2, kLong));
    exchange_and_look(gather, rank, 2);
    const int before = testing::num_open_fds();
    for (int i = 0; i < 50; ++i)
      if (const auto text = exchange_and_look(gather, rank, 2); text != "fine") return text;
    return testing::num_open_fds() == before ? "fine" : "leaked";
  });
  for (const auto& text : processes.verdicts()) EXPECT_EQ(text, "fine");
}

TEST_F(DescriptorsTest, FailureOfOneIsReportedByAll) {
  Processes processes(3, [&](int rank) -> std::string {
    const AllGather gather = all_gather_of(Rendezvous::meet("one", rank, 3, kLong));
    try {
      DescriptorExchange(gather, rank, 3, milliseconds{500}).exchange(rank == 1 ? 9999 : -1);  // no such descriptor
    } catch (const PeerLostError& e) {
      return e.what();
    }
    return "another class";
  });
  const Verdicts verdicts = processes.verdicts();
  EXPECT_TRUE(contains(verdicts[1], "sendmsg on a socket failed: Bad file descriptor")) << verdicts[1];
  for (const int r : {0, 2}) EXPECT_TRUE(contains(verdicts[r], "rank 1 ")) << verdicts[r];
}

TEST_F(DescriptorsTest, KilledPeerIsNamed) {
  Processes processes(3, [&](int rank) -> std::string {
    const auto meeting = Rendezvous::meet("dies", rank, 3, kLong);
    int num_calls = 0;
    const AllGather gather = [&](const void* mine, std::size_t bytes, void* all) {
      meeting->all_gather(mine, bytes, all);
      if (rank == 2 && ++num_calls == 1) ::kill(::getpid(), SIGKILL);  // after it has promised to answer
    };
    const auto start = std::chrono::steady_clock::now();
    try {
      exchange_and_look(gather, rank, 3);
    } catch (const PeerLostError& e) {
      return std::chrono::steady_clock::now() - start < milliseconds{5000} ? e.what() : "too late";
    }
    return "nothing was thrown";
  });
  const Verdicts verdicts = processes.verdicts();
  EXPECT_EQ(verdicts[2], "killed");
  for (const int r : {0, 1}) EXPECT_TRUE(contains(verdicts[r], "rank 2")) << verdicts[r];
}

TEST_F(DescriptorsTest, SilentPeerIsNamedWithinTheDeadline) {
  Processes processes(3, [&](int rank) -> std::string {
    const auto meeting = Rendezvous::meet("silent", rank, 3, kLong);
    int num_calls = 0;
    const AllGather gather = [&](const void* mine, std::size_t bytes, void* all) {
      meeting->all_gather(mine, bytes, all);
      if (rank == 2 && ++num_calls == 1) sleep_ms(1500);
    };
    try {
      exchange_and_look(gather, rank, 3, milliseconds{300});
    } catch (const PeerLostError& e) {
      return e.what();
    }
    return "nothing was thrown";
  });
  const Verdicts verdicts = processes.verdicts();
  for (const int r : {0, 1}) EXPECT_TRUE(contains(verdicts[r], "rank 2 did not answer within 300 ms")) << verdicts[r];
}

/// Knocks at a rank's door without knowing its secret; "fine" if it says nothing and closes.
std::string knock_at(const std::string& door) {
  const UniqueFd link = platform::system::connect_to(door);
  if (!link) return "nobody listens";
  const char note[24] = {};
  platform::system::send_all(link.get(), note, sizeof(note), platform::system::Deadline(kLong));
  platform::system::Inbox inbox(1);
  const auto arrival = platform::system::receive_all(link.get(), inbox, platform::system::Deadline(kLong));
  return arrival == platform::system::Arrival::closed ? "fine" : "a stranger got an answer";
}

TEST_F(DescriptorsTest, StrangersGetNothing) {
  // Rank 0 tells the name of its door (which any user could list), not its secret; rank 1 lets it wait.
  const std::string file = scratch_.path() + "/door";
  const auto rank_body = [&](int rank) {
    const auto meeting = Rendezvous::meet("stranger", rank, 2, kLong);
    int num_calls = 0;
    const AllGather gather = [&](const void* mine, std::size_t bytes, void* all) {
      if (++num_calls == 1 && rank == 1) sleep_ms(800);
      if (num_calls == 1 && rank == 0) {
        platform::system::Id128 name;
        std::memcpy(&name, mine, sizeof(name));
        std::ofstream(file + "_") << hex_of(name);
        ::rename((file + "_").c_str(), file.c_str());
      }
      meeting->all_gather(mine, bytes, all);
    };
    return exchange_and_look(gather, rank, 2);
  };
  const auto stranger_body = [&](bool other_user) -> std::string {
    std::string name;
    while (!(std::ifstream(file) >> name)) sleep_ms(1);
    if (other_user && ::setuid(65534) != 0) return "setuid failed";
    return knock_at(std::string(1, '\0') + "crossdock-" + name);
  };
  const bool root = ::geteuid() == 0;
  Processes processes(root ? 4 : 3, [&](int i) { return i < 2 ? rank_body(i) : stranger_body(i == 3); });
  for (const auto& text : processes.verdicts()) EXPECT_EQ(text, "fine");
}

TEST(LocalSocket, PeerIsThisProcess) {
  const std::string name = std::string(1, '\0') + "xd-test-" + hex_of(platform::system::random_id128());
  const UniqueFd listener = platform::system::listen_at(name, 4);
  const UniqueFd link = platform::system::connect_to(name);
  ASSERT_TRUE(link);
  EXPECT_EQ(platform::system::peer_of(link.get()).pid, ::getpid());
  EXPECT_TRUE(platform::system::same_user(link.get()));
  EXPECT_FALSE(platform::system::connect_to(name + "x"));
  EXPECT_THROW(platform::system::listen_at(std::string(200, 'p'), 4), SystemError);
}

TEST(LocalSocket, SendToAClosedEndIsFalse) {
  const std::string name = std::string(1, '\0') + "xd-test-" + hex_of(platform::system::random_id128());
  const UniqueFd listener = platform::system::listen_at(name, 4);
  const UniqueFd link = platform::system::connect_to(name);
  platform::system::accept_from(listener.get()).reset();
  EXPECT_FALSE(platform::system::send_all(link.get(), "x", 1, platform::system::Deadline(kLong)));  // and no SIGPIPE
}

TEST(LocalSocket, SendGivesUpAtTheDeadline) {
  const std::string name = std::string(1, '\0') + "xd-test-" + hex_of(platform::system::random_id128());
  const UniqueFd listener = platform::system::listen_at(name, 4);
  const UniqueFd link = platform::system::connect_to(name);
  const std::vector<char> much(std::size_t{16} << 20);
  EXPECT_FALSE(
      platform::system::send_all(link.get(), much.data(), much.size(), platform::system::Deadline(milliseconds{50})));
}

}  // namespace
}  // namespace crossdock::memory
