// SPDX-License-Identifier: Apache-2.0
// The ranks of `crossdock trace` and `crossdock profile`: pairs of dispatch and combine on one shape.
#pragma once

#include "command/failures.hpp"
#include "command/flags.hpp"
#include "jobs/bench_ranks.hpp"

namespace crossdock::tools {

/// The shape of one decode step, unless flags say otherwise.
struct DecodeOptions {
  DecodeOptions() {
    config.hidden = 7168, config.num_experts = 256, config.top_k = 8, config.max_tokens_per_rank = 128;
  }
  Config config;
  int num_ranks = 4;
  std::vector<int> devices;
  std::string out;
};

inline void add_decode_flags(CLI::App& app, DecodeOptions& o) {
  add_shape_flags(app, o.config, o.num_ranks);
  add_number(app, "--tokens", o.config.max_tokens_per_rank, 1, kMostTokens, "Tokens of each rank");
  add_row_flags(app, o.config);
  add_device_flag(app, o.devices);
}

/// Every rank in a thread of its own, on the machine that verbs use.
class DecodeJob {
 public:
  DecodeJob(const DecodeOptions& options, int trace_events)
      : data_(problem_of_job(options, trace_events)),
        expected_(expected_results(data_)),
        ranks_(data_, expected_, open_machine(backend_of_verbs(), options.devices)) {}

  /// Runs body on all ranks, then compares what its last pair has left with the oracle. Throws Failed.
  void run(const BenchRanks::Body& body) {
    if (const std::string why = ranks_.run(Op::pair, body); !why.empty())
      throw Failed("the result differs from the oracle's: {}", why);
  }
  void barrier() { ranks_.sync(); }
  Machine& machine() const { return ranks_.machine(); }
  int num_ranks() const { return ranks_.num_ranks(); }

 private:
  static Problem problem_of_job(const DecodeOptions& options, int trace_events) {
    Problem problem = problem_of(options.config, options.num_ranks);
    problem.trace_events = trace_events;
    require_support(config_of(problem), options.num_ranks);
    return problem;
  }

  Data data_;
  std::vector<oracle::RankResult> expected_;
  BenchRanks ranks_;
};

}  // namespace crossdock::tools
