// SPDX-License-Identifier: Apache-2.0
// Shows that ThreadSanitizer on fibers finds what a GPU would punish. To be compiled with -fsanitize=thread:
//   tsan_fiber            the names of all bodies, one a line; "correct" must run without a report (exit status 0),
//   tsan_fiber NAME       every other one must be reported as a data race (ThreadSanitizer's exit status, 66)
// although each of them, as the fibers happen to run, computes what it should.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "fiber/fiber_machine.hpp"

namespace {

using crossdock::platform::Bytes16;
using crossdock::testing::run_fibers;

constexpr const char* kBodies[] = {"correct",
                                   "missing_block_barrier",
                                   "missing_last_barrier",
                                   "missing_warp_barrier",
                                   "shuffle_as_barrier",
                                   "missing_arrival_order",
                                   "missing_release",
                                   "release_of_prior_kernels",
                                   "packet_for_acquire",
                                   "missing_acquire"};

constexpr int kThreads = 64, kBlocks = 2, kRanks = 2;

struct Shared {
  int value[kThreads];
  int of_warp[kThreads];
};

struct Rank {
  alignas(16) Bytes16 rows[kBlocks * kThreads];
  std::uint64_t flag = 0;
  Bytes16 packet = {};
  std::uint32_t arrivals = 0;
  int sums[kBlocks * kThreads] = {};
};

/// A miniature of a real kernel: exchange in block and warp, write a peer's rows, last block signals, wait, read.
template <class M>
void body(M& m, Shared& shared, Rank& mine, Rank& peer, const char* broken) {
  const auto is = [&](const char* name) { return std::strcmp(broken, name) == 0; };
  const int me = m.thread(), in_grid = m.block() * kThreads + me;
  int sum = 0;
  for (int round = 0; round < 3; ++round) {
    shared.value[me] = me + round;
    if (!is("missing_block_barrier")) m.sync_block();
    sum += shared.value[(me + M::kWidth) % kThreads];
    shared.of_warp[me] = me;
    if (is("shuffle_as_barrier")) {
      m.ballot(true);
    } else if (!is("missing_warp_barrier")) {
      m.sync_warp();
    }
    sum += shared.of_warp[m.warp() * M::kWidth + (m.lane() + 1) % M::kWidth];
    if (!is("missing_last_barrier")) m.sync_block();
  }
  mine.sums[in_grid] = sum;
  m.store16_streaming(&peer.rows[in_grid], Bytes16{{1, 2, 3, static_cast<std::uint32_t>(sum)}});
  m.sync_block();
  bool last = false;
  if (me == 0) {
    const std::uint32_t before =
        is("missing_arrival_order") ? m.add_relaxed(&mine.arrivals, 1) : m.add_acq_rel(&mine.arrivals, 1);
    last = before + 1 == kBlocks;
  }
  if (!m.sync_block_or(last)) return;
  if (me == 0 && is("missing_release")) m.store_relaxed(&peer.flag, 1);
  if (me == 0 && is("release_of_prior_kernels")) m.store_release_prior_kernels(&peer.flag, 1);
  if (me == 0 && is("packet_for_acquire")) m.store16_atomic(&peer.packet, Bytes16{{1, 1, 1, 1}});
  if (me == 0 && !is("missing_release") && !is("release_of_prior_kernels")) m.store_release(&peer.flag, 1);
  const auto has_come = [&] {
    if (is("missing_acquire")) return m.load_relaxed(&mine.flag) != 0;
    return is("packet_for_acquire") ? m.load16_atomic(&mine.packet).word[3] != 0 : m.load_acquire(&mine.flag) != 0;
  };
  while (me == 0 && !has_come()) m.pause();
  m.sync_block();
  for (int i = me; i < kBlocks * kThreads; i += kThreads)
    mine.sums[i] += static_cast<int>(m.load16(&mine.rows[i]).word[3]);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    for (const char* name : kBodies) std::puts(name);
    return 0;
  }
  bool known = false;
  for (const char* name : kBodies) known = known || std::strcmp(argv[1], name) == 0;
  if (!known) return std::fprintf(stderr, "%s: no such body\n", argv[1]), 2;
  for (const std::uint64_t seed : {0u, 1u, 2u, 3u}) {
    std::vector<Rank> ranks(kRanks);
    std::vector<std::thread> threads;
    for (int r = 0; r < kRanks; ++r) {
      threads.emplace_back([&, r] {
        run_fibers<32, Shared>({kBlocks, kThreads},
                               [&](auto& m, Shared& s) { body(m, s, ranks[r], ranks[(r + 1) % kRanks], argv[1]); },
                               {.seed = seed});
      });
    }
    for (auto& thread : threads) thread.join();
  }
  return 0;
}
