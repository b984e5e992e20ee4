// SPDX-License-Identifier: Apache-2.0
// All ranks of a bench, as threads on one machine.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "jobs/bench_rank.hpp"
#include "ranks/ranks.hpp"

namespace crossdock::tools {

class BenchRanks {
 public:
  /// `expected` is the oracle's answer to combine. Both outlive this.
  BenchRanks(const Data& data, const std::vector<oracle::RankResult>& expected, std::shared_ptr<Machine> machine)
      : expected_(expected),
        machine_(std::move(machine)),
        threads_(data.problem.shape.num_ranks),
        ranks_(static_cast<std::size_t>(num_ranks())) {
    const ThreadTeam team(num_ranks());
    threads_.run([&](int r) {
      ranks_[r] = std::make_unique<BenchRank>(data, team, r, *machine_);
      sync();
      const std::unique_ptr<Queue> queue = machine_->make_queue();
      CallOptions options;
      options.stream = queue->handle();
      ranks_[r]->finish_combine(options);  // of the dispatch that made the plan
      queue->synchronize();
    });
  }
  ~BenchRanks() {
    try {
      threads_.run([&](int r) {
        machine_->use(r);
        ranks_[r].reset();
      });
    } catch (...) {
    }
  }

  Machine& machine() const { return *machine_; }
  int num_ranks() const { return threads_.num_ranks(); }
  BenchRank& operator[](int r) { return *ranks_[static_cast<std::size_t>(r)]; }
  void sync() { threads_.sync(); }

  using Body = std::function<void(int rank, BenchRank& bench, Queue& queue)>;
  /// Runs body on all ranks, each with a queue, and then judges what the calls of `op` have left. Empty, or what is wrong.
  std::string run(Op op, const Body& body) {
    std::vector<std::string> wrong(ranks_.size());
    threads_.run([&](int r) {
      machine_->use(r);
      const std::unique_ptr<Queue> queue = machine_->make_queue();
      ranks_[r]->debug_fill();
      sync();
      body(r, *ranks_[r], *queue);
      queue->synchronize();
      wrong[r] = ranks_[r]->judge(op, expected_[r]);
      sync();  // a rank that goes on may dispatch into rows that others still read
    });
    for (const std::string& why : wrong)
      if (!why.empty()) return why;
    return {};
  }

 private:
  const std::vector<oracle::RankResult>& expected_;
  std::shared_ptr<Machine> machine_;
  RankThreads threads_;
  std::vector<std::unique_ptr<BenchRank>> ranks_;
};

}  // namespace crossdock::tools
