// SPDX-License-Identifier: Apache-2.0
// The executor with real lanes: identity, meetings, co-resident blocks, order by seed, and kernel bugs it must report.
#include "fiber/fiber_machine.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "crossdock/error.hpp"

namespace crossdock::testing {
namespace {

/// Idle fibers count as threads for ThreadSanitizer; without them the tests after these may fork.
class FiberTest : public ::testing::Test {
 protected:
  static void TearDownTestSuite() { FiberPool::of_this_thread().clear(); }
};

struct Nothing {};

struct Row {
  int value[256];
};

struct Identity {
  int lane, warp, num_warps, thread, num_threads, block, num_blocks;
  auto operator<=>(const Identity&) const = default;
};

template <int kWidth>
void check_identity(const platform::Geometry& geometry) {
  std::set<Identity> seen;
  run_fibers<kWidth, Nothing>(geometry, [&](auto& m, Nothing&) {
    seen.insert({m.lane(), m.warp(), m.num_warps(), m.thread(), m.num_threads(), m.block(), m.num_blocks()});
  });
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(geometry.num_blocks * geometry.num_threads));
  for (const Identity& i : seen) {
    EXPECT_EQ(i.warp * kWidth + i.lane, i.thread);
    EXPECT_EQ(i.num_warps * kWidth, i.num_threads);
    EXPECT_LT(i.thread, i.num_threads);
    EXPECT_LT(i.block, i.num_blocks);
  }
}

#if !XD_TSAN  // the plain set is shared without order
TEST_F(FiberTest, KnowsWhereItIs) {
  check_identity<1>({1, 1});
  check_identity<1>({3, 4});
  check_identity<32>({2, 96});
  check_identity<64>({3, 128});
}
#endif

TEST_F(FiberTest, SharedMemoryIsPerBlockAndLooksUnwritten) {
  std::vector<int> wrong(2), sums(2);
  run_fibers<32, Row>({2, 64}, [&](auto& m, Row& shared) {
    if (m.thread() == 0) {
      for (const int v : shared.value) wrong[m.block()] += static_cast<unsigned>(v) != 0xA5A5A5A5u;
    }
    m.sync_block();
    shared.value[m.thread()] = m.thread() + 100 * m.block();
    m.sync_block();
    if (m.thread() == 0) {
      for (int t = 0; t < 64; ++t) sums[m.block()] += shared.value[t];
    }
  });
  EXPECT_EQ(wrong, (std::vector<int>{0, 0}));
  EXPECT_EQ(sums, (std::vector<int>{64 * 63 / 2, 64 * 63 / 2 + 6400}));
}

TEST_F(FiberTest, BarriersSeparateRounds) {
  for (const std::uint64_t seed : {0u, 1u, 2u, 77u}) {
    std::vector<int> errors(2 * 128);
    run_fibers<32, Row>({2, 128},
                        [&](auto& m, Row& shared) {
                          const int next = (m.thread() + 1) % 128, in_warp = m.warp() * 32 + (m.lane() + 7) % 32;
                          for (int round = 0; round < 20; ++round) {
                            shared.value[m.thread()] = round * 1000 + m.thread();
                            m.sync_block();
                            errors[m.block() * 128 + m.thread()] += shared.value[next] != round * 1000 + next;
                            m.sync_block();
                            shared.value[128 + m.thread()] = round - m.thread();
                            m.sync_warp();
                            errors[m.block() * 128 + m.thread()] += shared.value[128 + in_warp] != round - in_warp;
                            m.sync_warp();
                          }
                        },
                        {.seed = seed});
    EXPECT_EQ(std::count(errors.begin(), errors.end(), 0), 256) << "seed " << seed;
  }
}

template <int kWidth>
void check_collectives(std::uint64_t seed) {
  constexpr int kThreads = 2 * kWidth;
  std::vector<int> errors(2 * kThreads);
  run_fibers<kWidth, Nothing>({2, kThreads},
                              [&](auto& m, Nothing&) {
                                int& wrong = errors[m.block() * kThreads + m.thread()];
                                for (int round = 0; round < 5; ++round) {
                                  wrong += m.sync_block_or(m.thread() == round % kThreads) != true;
                                  wrong += m.sync_block_or(m.block() == 1) != (m.block() == 1);
                                  wrong += m.sync_block_or(false);
                                  const int voter = round % kWidth, last = kWidth - 1;
                                  wrong += m.ballot(m.lane() == voter || m.lane() == last) !=
                                           (std::uint64_t{1} << voter | std::uint64_t{1} << last);
                                  for (int n = 1; n <= kWidth; n *= 2) {
                                    const float most = m.max_across(static_cast<float>(-m.lane()), n);
                                    wrong += most != static_cast<float>(-(m.lane() / n * n));
                                  }
                                }
                              },
                              {.seed = seed});
  EXPECT_EQ(std::count(errors.begin(), errors.end(), 0), 2 * kThreads);
}

TEST_F(FiberTest, Collectives) {
  for (const std::uint64_t seed : {0u, 9u}) {
    check_collectives<1>(seed);
    check_collectives<32>(seed);
    check_collectives<64>(seed);
  }
}

TEST_F(FiberTest, BlocksAreCoResident) {
  // Each block waits for the one behind it: this ends only if all of them run.
  constexpr int kBlocks = 5;
  std::uint64_t flags[kBlocks + 1] = {};
  flags[kBlocks] = 1;
  run_fibers<32, Nothing>({kBlocks, 32}, [&](auto& m, Nothing&) {
    if (m.thread() == 0) {
      while (m.load_acquire(&flags[m.block() + 1]) == 0) m.pause();
      m.store_release(&flags[m.block()], 1);
    }
    m.sync_block();
  });
  EXPECT_EQ(flags[0], 1u);
}

TEST_F(FiberTest, RanksOnThreadsWaitForEachOther) {
  constexpr int kRanks = 4;
  static std::uint64_t words[kRanks];
  std::fill(std::begin(words), std::end(words), 0);
  int payload[kRanks] = {}, got[kRanks] = {};
  std::vector<std::thread> threads;
  for (int r = 0; r < kRanks; ++r) {
    threads.emplace_back([&, r] {
      run_fibers<32, Nothing>({2, 64}, [&](auto& m, Nothing&) {
        if (m.block() == 1 && m.thread() == 3) {
          payload[r] = 10 + r;
          m.store_release(&words[r], 1);
        }
        if (m.block() == 0 && m.warp() == 1 && m.lane() == 0) {
          const int peer = (r + 1) % kRanks;
          while (m.load_acquire(&words[peer]) == 0) m.pause();
          got[r] = payload[peer];
        }
        m.sync_block();
      });
    });
  }
  for (auto& thread : threads) thread.join();
  for (int r = 0; r < kRanks; ++r) EXPECT_EQ(got[r], 10 + (r + 1) % kRanks);
}

TEST_F(FiberTest, WordsCountExactly) {
  std::uint32_t total = 0, arrivals = 0;
  std::uint64_t claimed = 0;
  std::uint32_t bits = 0;
  std::vector<int> last(1), winners(1);
  run_fibers<32, Nothing>({2, 64},
                          [&](auto& m, Nothing&) {
                            m.add_relaxed(&total, 3);
                            m.or_relaxed(&bits, 1u << (m.thread() % 32));
                            const bool won = m.claim(&claimed, static_cast<std::uint64_t>(m.thread()) + 1);
                            if (m.add_acq_rel(&arrivals, 1) + 1 == 128) ++last[0];
                            if (won) ++winners[0];
                          },
                          {.seed = 5});
  EXPECT_EQ(total, 3u * 128);
  EXPECT_EQ(bits, ~0u);
  EXPECT_EQ(last[0], 1);
  EXPECT_EQ(winners[0], 1);
  EXPECT_NE(claimed, 0u);
}

std::vector<int> order_of(std::uint64_t seed) {
  std::vector<int> order(64);
  std::uint32_t next = 0;
  run_fibers<32, Nothing>({1, 64}, [&](auto& m, Nothing&) { order[m.add_relaxed(&next, 1)] = m.thread(); },
                          {.seed = seed});
  return order;
}

TEST_F(FiberTest, SeedChoosesTheOrderAndRepeatsIt) {
  std::vector<int> in_order(64);
  for (int i = 0; i < 64; ++i) in_order[i] = i;
  EXPECT_EQ(order_of(0), in_order);
  EXPECT_NE(order_of(1), in_order);
  EXPECT_NE(order_of(1), order_of(2));
  EXPECT_EQ(order_of(1), order_of(1));
}

template <class Run>
std::string what_of(Run&& run) {
  try {
    run();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing was thrown";
}

TEST_F(FiberTest, DivergentBarrierIsReported) {
  const std::string text = what_of([] {
    run_fibers<32, Nothing>({2, 64}, [](auto& m, Nothing&) {
      if (m.block() == 1 && m.thread() == 5) return;
      m.sync_block();
    });
  });
  EXPECT_NE(text.find("block 1: 63 threads wait in sync_block, 1 of 64 have ended"), std::string::npos) << text;
  EXPECT_NE(text.find("block 0: 64 of 64 have ended"), std::string::npos) << text;
}

TEST_F(FiberTest, DifferentCallsThatMeetAreReported) {
  const std::string text = what_of([] {
    run_fibers<32, Nothing>({1, 32}, [](auto& m, Nothing&) {
      if (m.lane() == 5) {
        m.ballot(true);
      } else {
        m.sync_warp();
      }
    });
  });
  EXPECT_NE(text.find("meet in different calls"), std::string::npos) << text;
  const std::string spans = what_of([] {
    run_fibers<32, Nothing>({1, 32}, [](auto& m, Nothing&) { m.max_across(1.0f, m.lane() < 16 ? 16 : 8); });
  });
  EXPECT_NE(spans.find("meet in different calls"), std::string::npos) << spans;
}

TEST_F(FiberTest, ExceptionOfAThreadEndsTheLaunch) {
  for (int again = 0; again < 3; ++again) {
    const std::string text = what_of([] {
      run_fibers<32, Nothing>({1, 64}, [](auto& m, Nothing&) {
        if (m.thread() == 40) throw std::runtime_error("thread 40 has had enough");
        m.sync_block();
      });
    });
    EXPECT_EQ(text, "thread 40 has had enough");
  }
  check_collectives<32>(0);  // and the next launch is as good as ever
}

TEST_F(FiberTest, WrongGeometryIsRefused) {
  EXPECT_THROW((run_fibers<32, Nothing>({1, 33}, [](auto&, Nothing&) {})), UsageError);
  EXPECT_THROW((run_fibers<32, Nothing>({0, 32}, [](auto&, Nothing&) {})), UsageError);
  EXPECT_THROW((run_fibers<32, Nothing>({1, 0}, [](auto&, Nothing&) {})), UsageError);
}

TEST_F(FiberTest, ManyLaunches) {
  std::uint32_t total = 0;
  for (int i = 0; i < 500; ++i) run_fibers<32, Nothing>({1, 64}, [&](auto& m, Nothing&) { m.add_relaxed(&total, 1); });
  EXPECT_EQ(total, 500u * 64);
}

TEST_F(FiberTest, LaunchesOfTwoThreadsAtOnce) {
  // Fibers belong to an OS thread; two threads launch at once, again and again.
  std::atomic<int> wrong{0};
  const auto work = [&](std::uint64_t seed) {
    for (int i = 0; i < 50; ++i) {
      std::uint32_t total = 0;
      run_fibers<32, Nothing>({2, 32}, [&](auto& m, Nothing&) { m.add_relaxed(&total, 1); }, {.seed = seed});
      wrong += total != 64;
    }
  };
  std::thread other(work, 3);
  work(0);
  other.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace crossdock::testing
