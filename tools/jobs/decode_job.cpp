// SPDX-License-Identifier: Apache-2.0
#include "jobs/decode_job.hpp"

#include "command/failures.hpp"
#include "command/flags.hpp"

namespace crossdock::tools {
namespace {

Data data_of(const DecodeOptions& options, int trace_events) {
  Problem problem = problem_of(options.config, options.num_ranks);
  problem.trace_events = trace_events;
  require_support(config_of(problem), options.num_ranks);
  return Data(problem);
}

}  // namespace

DecodeOptions::DecodeOptions() {
  config.hidden = 7168, config.num_experts = 256, config.top_k = 8, config.max_tokens_per_rank = 128;
}

void add_decode_flags(CLI::App& app, DecodeOptions& o) {
  add_shape_flags(app, o.config, o.num_ranks);
  app.add_option("--tokens", o.config.max_tokens_per_rank, "Tokens of each rank")
      ->check(CLI::Range(1, (1 << 24) - 1))
      ->capture_default_str();
  add_row_flags(app, o.config);
  add_device_flag(app, o.devices);
}

DecodeJob::DecodeJob(const DecodeOptions& options, int trace_events)
    : data_(data_of(options, trace_events)),
      expected_(expected_results(data_)),
      machine_(open_machine(backend_of_verbs(), options.devices)),
      threads_(options.num_ranks) {}

void DecodeJob::run(const Body& body) {
  const ThreadTeam team(num_ranks());
  std::vector<std::string> wrong(static_cast<std::size_t>(num_ranks()));
  threads_.run([&](int r) {
    BenchRank bench(data_, team, r, *machine_);
    const std::unique_ptr<Queue> queue = machine_->make_queue();
    CallOptions options;
    options.stream = queue->handle();
    barrier();
    bench.finish_combine(options);  // the dispatch that made the plan
    queue->synchronize();
    bench.debug_fill();
    barrier();
    body(r, bench, *queue);
    queue->synchronize();
    wrong[static_cast<std::size_t>(r)] = bench.judge_in_place(Op::pair, expected_[static_cast<std::size_t>(r)]);
    barrier();
  });
  for (const std::string& why : wrong)
    if (!why.empty()) throw Failed("the result differs from the oracle's: " + why);
}

}  // namespace crossdock::tools
