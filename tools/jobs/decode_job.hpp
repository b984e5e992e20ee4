// SPDX-License-Identifier: Apache-2.0
// The ranks of `crossdock trace` and `crossdock profile`: pairs of dispatch and combine on one shape.
#pragma once

#include <functional>
#include <memory>

#include "jobs/bench_rank.hpp"
#include "ranks/rank_threads.hpp"

namespace CLI {
class App;
}

namespace crossdock::tools {

/// The shape of one decode step, unless flags say otherwise.
struct DecodeOptions {
  DecodeOptions();
  Config config;
  int num_ranks = 4;
  std::vector<int> devices;
  std::string out;
};
void add_decode_flags(CLI::App& app, DecodeOptions& options);

/// Every rank in a thread of its own, on the machine that verbs use; each result is compared with the oracle at the end.
class DecodeJob {
 public:
  DecodeJob(const DecodeOptions& options, int trace_events);

  using Body = std::function<void(int rank, BenchRank& bench, Queue& queue)>;
  /// Runs body on all ranks, then judges what its last pair has left. Throws Failed.
  void run(const Body& body);
  void barrier() { threads_.barrier().wait(); }
  Machine& machine() { return *machine_; }
  int num_ranks() const { return threads_.num_ranks(); }

 private:
  Data data_;
  std::vector<oracle::RankResult> expected_;
  std::shared_ptr<Machine> machine_;
  RankThreads threads_;
};

}  // namespace crossdock::tools
