// SPDX-License-Identifier: Apache-2.0
// Ranks as processes that meet by a name or by the caller's own all-gather; what the others learn when one is killed.
#include "support/processes.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "support/harness.hpp"
#include "sync/status.hpp"

namespace crossdock::testing {
namespace {

using namespace std::chrono_literals;

/// In the process of rank `r`: the parent never speaks to a driver, or its children could not.
GroupOptions options_with(int r, std::chrono::milliseconds deadline) {
  use_device(backend_of_tests(), r);
  return options_of(backend_of_tests(), r, deadline);
}

TestCase process_case(int ranks) {
  TestCase test = small_case(ranks);
  test.config.scale_bytes = 7;
  test.config.zero_copy = true;
  test.recipe.routing = oracle::Routing::mixed;
  return test;
}

/// What a rank does in its process once it has a group: all of `rounds`, compared with the oracle.
std::string work(const TestCase& test, const std::vector<Answers>& rounds, Group group) {
  Log log;
  Rank rank(test, std::move(group), log);
  for (const Answers& answers : rounds) rank.run(answers);
  return log.text();
}

std::vector<Answers> rounds_of(TestCase test, int count) {
  std::vector<Answers> rounds;
  for (int n = 0; n < count; ++n) {
    test.recipe.seed = 50 + static_cast<std::uint64_t>(n);
    rounds.push_back(answers_of(test));
  }
  return rounds;
}

void expect_quiet(const std::vector<ProcessReport>& reports) {
  for (std::size_t r = 0; r < reports.size(); ++r) {
    EXPECT_EQ(reports[r].text, "") << "rank " << r;
    EXPECT_EQ(reports[r].exit_status, 0) << "rank " << r;
  }
}

TEST(Processes, ByRendezvous) {
  const RuntimeDir dir;
  for (const int ranks : {1, 2, 4, 8}) {
    const TestCase test = process_case(ranks);
    const std::vector<Answers> rounds = rounds_of(test, 4);
    const std::string name = unique_name();
    expect_quiet(run_processes(ranks, [&](int r) {
      return work(test, rounds, Group::rendezvous(name, r, ranks, options_with(r, kPatience)));
    }));
  }
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir.path())) files += !entry.is_directory();
  EXPECT_EQ(files, 0) << "sockets left in " << dir.path();
}

/// A process gives up its own mappings of all arenas while its calls use them; the others' are no help.
TEST(Processes, MayLeaveWhileTheirCallsAreUnderWay) {
  const RuntimeDir dir;
  TestCase test = process_case(3);
  test.recipe.routing = oracle::Routing::random;  // bad ids would be reported, to a rank that dispatched early enough
  const Answers answers = answers_of(test);
  const std::string name = unique_name();
  expect_quiet(run_processes(3, [&](int r) {
    Log log;
    for (int n = 0; n < 3; ++n) {
      Gate gone(1);
      Group group = Group::rendezvous(name + std::to_string(n), r, 3, options_with(r, kPatience));
      leave_under_way(std::make_unique<Rank>(test, std::move(group), log), answers, gone);
    }
    return log.text();
  }));
}

/// An all-gather over pages that all processes share: every rank posts, then waits for all.
class SharedGather {
 public:
  explicit SharedGather(int num_ranks) : num_ranks_(num_ranks) {
    page_ =
        static_cast<Page*>(::mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  }
  ~SharedGather() { ::munmap(page_, sizeof(Page)); }

  AllGather of(int rank) {
    return [this, rank, turn = 0](const void* mine, std::size_t bytes, void* all) mutable {
      if (bytes > sizeof page_->data[0][0]) throw std::runtime_error("too much for this callback");
      const int side = turn++ % 2;
      std::memcpy(page_->data[side][rank], mine, bytes);
      page_->posted[rank].store(turn);
      for (int r = 0; r < num_ranks_; ++r)
        while (page_->posted[r].load() < turn) std::this_thread::yield();
      for (int r = 0; r < num_ranks_; ++r)
        std::memcpy(static_cast<char*>(all) + bytes * static_cast<std::size_t>(r), page_->data[side][r], bytes);
    };
  }

 private:
  struct Page {
    std::atomic<int> posted[kMaxRanks];
    char data[2][kMaxRanks][4096];  // two turns: a fast rank posts the next while a slow one still reads
  };
  const int num_ranks_;
  Page* page_;
};

TEST(Processes, ByACallback) {
  const TestCase test = process_case(3);
  const std::vector<Answers> rounds = rounds_of(test, 4);
  SharedGather gather(3);
  expect_quiet(run_processes(
      3, [&](int r) { return work(test, rounds, Group::join(r, 3, gather.of(r), options_with(r, kPatience))); }));
}

/// Two ranks are threads of one process, two are processes of their own.
TEST(Processes, ThreadsAndProcessesMixed) {
  const TestCase test = process_case(4);
  const std::vector<Answers> rounds = rounds_of(test, 4);
  SharedGather gather(4);
  expect_quiet(run_processes(3, [&](int p) -> std::string {
    const auto play = [&](int r) {
      return work(test, rounds, Group::join(r, 4, gather.of(r), options_with(r, kPatience)));
    };
    if (p > 0) return play(p + 1);
    std::string second;
    std::thread thread([&] { second = play(1); });
    const std::string first = play(0);
    thread.join();
    return first + second;
  }));
}

/// Sum of the mappings of shared memory in this process.
std::uint64_t shared_bytes() {
  std::ifstream maps("/proc/self/maps");
  std::uint64_t bytes = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:crossdock") == std::string::npos) continue;
    const std::size_t dash = line.find('-');
    bytes += std::stoull(line.substr(dash + 1), nullptr, 16) - std::stoull(line.substr(0, dash), nullptr, 16);
  }
  return bytes;
}

/// The bill against what the system says: every rank maps the arenas of all, each as large as its lines say.
TEST(Processes, WhatIsMappedIsWhatTheBillSays) {
  if (backend_of_tests() != BackendKind::cpu) GTEST_SKIP() << "a GPU's memory is no mapping of the process; see Cycles";
  const RuntimeDir dir;
  TestCase test = process_case(3);
  test.config.hidden = 4096;
  test.config.max_tokens_per_rank = 100;  // past 2 MiB, where mappings are aligned to huge pages
  const std::string name = unique_name();
  expect_quiet(run_processes(3, [&](int r) -> std::string {
    const Group group = Group::rendezvous(name, r, 3, options_with(r, kPatience));
    const std::uint64_t before = shared_bytes();
    std::uint64_t told = 0;
    for (const RegionBytes& region : memory_of(test.config, 3).regions)
      if (region.name.rfind("host.", 0) != 0) told += region.bytes;
    const Exchange exchange(group, test.config);
    const std::uint64_t mapped = shared_bytes() - before;
    return mapped == 3 * told ? "" : "mapped " + std::to_string(mapped) + ", the bill says 3 * " + std::to_string(told);
  }));
}

/// Rounds until the group fails; gives the status that it failed with. Calls `begun` after the first.
std::string work_until_failure(const TestCase& test, const std::vector<Answers>& rounds, Group group,
                               const std::function<void(Rank&)>& begun = {}) {
  Log ignored;
  Rank rank(test, std::move(group), ignored);
  for (int n = 0;; ++n) {
    try {
      rank.run(rounds[0]);
      if (n == 0 && begun) begun(rank);
    } catch (const Error&) {
      const Status status = rank.exchange.poll();
      return std::string(name_of(status.code)) + " peer " + std::to_string(status.peer) + ": " + status.text;
    }
  }
}

TEST(Processes, AKilledMemberIsNamedWithinTheDeadline) {
  const RuntimeDir dir;
  const TestCase test = process_case(4);
  const std::vector<Answers> rounds = rounds_of(test, 1);
  const std::string name = unique_name();
  const SharedCount working;
  std::chrono::steady_clock::time_point killed;
  const auto reports = run_processes(
      4,
      [&](int r) {
        return work_until_failure(test, rounds, Group::rendezvous(name, r, 4, options_with(r, kPatience)),
                                  [&](Rank& rank) {
                                    rank.group.set_deadline(1500ms);
                                    working.add();
                                  });
      },
      [&](const std::vector<pid_t>& pids) {
        working.await(4, kPatience);
        std::this_thread::sleep_for(500ms);
        ::kill(pids[2], SIGKILL);
        killed = std::chrono::steady_clock::now();
      });
  EXPECT_LT(std::chrono::steady_clock::now() - killed, 20s);
  for (const int r : {0, 1, 3}) {
    EXPECT_EQ(reports[r].text.rfind("peer_lost peer 2: ", 0), 0u) << "rank " << r << ": " << reports[r].text;
    EXPECT_NE(reports[r].text.find("rank 2"), std::string::npos) << reports[r].text;
  }
  EXPECT_TRUE(WIFSIGNALED(reports[2].exit_status));
}

TEST(Processes, AbortReachesOtherProcessesWithItsReason) {
  const RuntimeDir dir;
  const TestCase test = process_case(3);
  const std::vector<Answers> rounds = rounds_of(test, 1);
  const std::string name = unique_name();
  const auto reports = run_processes(3, [&](int r) -> std::string {
    Group group = Group::rendezvous(name, r, 3, options_with(r, 30'000ms));
    if (r != 1) return work_until_failure(test, rounds, std::move(group));
    Log log;
    Rank rank(test, std::move(group), log);
    for (int n = 0; n < 3; ++n) rank.run(rounds[0]);
    rank.group.abort("out of luck");
    return log.text();
  });
  for (const int r : {0, 2})
    EXPECT_EQ(reports[r].text.rfind("aborted peer 1: rank 1 aborted the group: out of luck", 0), 0u) << reports[r].text;
  EXPECT_EQ(reports[1].text, "");
}

/// A process may end after its last call; peers that are slower still find its memory.
TEST(Processes, AMemberExitsWhilePeersStillPull) {
  const RuntimeDir dir;
  TestCase test = process_case(3);
  test.recipe.routing = oracle::Routing::random;  // no bad ids: their report may refuse the combine
  const std::vector<Answers> rounds = rounds_of(test, 1);
  for (int leaver = 0; leaver < 3; ++leaver) {
    const std::string name = unique_name();
    expect_quiet(run_processes(3, [&](int r) {
      Log log;
      Rank rank(test, Group::rendezvous(name, r, 3, options_with(r, kPatience)), log);
      Round round(test, rounds[0], r);
      Stream stream;
      const CallOptions options = stream.options();
      Received received = rank.exchange.dispatch(round.input(), options);
      const CombineInput from = round.run_experts(received, stream.handle());
      if (r != leaver) stream.pause(50ms);
      rank.combine(std::move(received), from, round.output(), stream.handle());
      stream.synchronize();
      round.check_output(log);
      return log.text();
    }));
  }
}

/// Dies while the group forms: the others are told instead of waiting.
TEST(Processes, AMemberDiesBeforeTheGroupIsMade) {
  const RuntimeDir dir;
  const std::string name = unique_name();
  const auto reports = run_processes(3, [&](int r) -> std::string {
    if (r == 1) ::kill(::getpid(), SIGKILL);
    try {
      const Group group = Group::rendezvous(name, r, 3, options_with(r, 500ms));
      return "joined without rank 1";
    } catch (const PeerLostError& error) {
      return std::string(error.what()).find("rank 1") == std::string::npos ? error.what() : "";
    }
  });
  EXPECT_EQ(reports[0].text, "");
  EXPECT_EQ(reports[2].text, "");
}

TEST(Processes, AHundredGroupsByNameLeakNothing) {
  const RuntimeDir dir;
  const TestCase test = process_case(2);
  const std::vector<Answers> rounds = rounds_of(test, 1);
  const std::string name = unique_name();
  expect_quiet(run_processes(2, [&](int r) -> std::string {
    const auto files = [] {
      int count = 0;
      for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
      return count;
    };
    int at_first = 0;
    for (int cycle = 0; cycle < 100; ++cycle) {
      const std::string text =
          work(test, rounds, Group::rendezvous(name + std::to_string(cycle), r, 2, options_with(r, kPatience)));
      if (!text.empty()) return text;
      if (cycle == 0) at_first = files();
    }
    if (files() != at_first) return "files: " + std::to_string(at_first) + " then " + std::to_string(files());
    if (shared_bytes() != 0) return "mapped: " + std::to_string(shared_bytes());
    return "";
  }));
}

}  // namespace
}  // namespace crossdock::testing
