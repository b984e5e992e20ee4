// SPDX-License-Identifier: Apache-2.0
// `crossdock run`: one MoE layer over a text, by ranks that exchange their tokens, checked against the dense layer.
#include <unistd.h>

#include <memory>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "layer/layer_report.hpp"
#include "machine/machine.hpp"
#include "ranks/ranks.hpp"

namespace crossdock::tools {
namespace {

void throw_what_went_wrong(const std::vector<Ending>& endings, const Shared& shared) {
  std::vector<std::string> failures;
  for (const Ending& ending : endings) {
    const RankReport& report = shared.reports[static_cast<std::size_t>(ending.rank)];
    if (report.bad_input) throw BadInput("{}", report.failure);  // every rank says the same
    if (*report.failure)
      failures.push_back(fmt::format("rank {} says: {}", ending.rank, report.failure));
    else if (!ending.why.empty())
      failures.insert(failures.begin(), ending.why);  // others have failed because of it
  }
  if (!failures.empty()) throw Failed("{}", fmt::join(failures, "\n  "));
}

/// Runs all ranks; throws Failed with what every failed rank says.
void run_ranks(const LayerJob& job, Shared& shared) {
  const Model model(job.model);
  const Meeting meeting(job.num_ranks(), job.options.processes);
  Watch watch;
  watch.on_failure = [&] { shared.barrier[0].stop(); };
  watch.allow(std::chrono::milliseconds(job.options.deadline_ms));
  const auto run = job.options.processes ? run_as_processes : run_as_threads;
  const auto body = [&](int rank) { return run_rank(job, model, shared, meeting, rank); };
  throw_what_went_wrong(run(job.num_ranks(), body, watch), shared);
}

void record(const LayerJob& job, Shared& shared) {
  Trace trace;
  trace.num_experts = job.options.config.num_experts;
  trace.top_k = job.options.config.top_k;
  trace.tokens = job.tokens;
  trace.ids.assign(shared.ids.all().begin(), shared.ids.all().end());
  trace.weights.assign(shared.weights.all().begin(), shared.weights.all().end());
  trace.note = job.trace ? job.trace->note
                         : fmt::format("{} router over {}", kRouterNames[static_cast<int>(job.options.router.kind)],
                                       job.text.path);
  write_trace(job.options.record, trace);
}

void run_layer(const LayerOptions& options) {
  const LayerJob job = prepare(options);
  Shared shared(job);
  run_ranks(job, shared);
  if (!options.record.empty()) record(job, shared);
  const LayerSummary summary(job, shared);
  options.json ? fmt::print("{}\n", json_of(summary).dump(2)) : print_text(summary);
  if (const std::string complaint = complaint_of(summary); !complaint.empty()) throw Failed("{}", complaint);
}

void add_router_flags(CLI::App& app, RouterShape& router) {
  add_enum(app, "--router", router.kind, kRouterNames, "Who picks the experts");
  add_number(app, "--groups", router.num_groups, 0, 1 << 16, "deepseek: groups of experts; 0: up to 8");
  add_number(app, "--topk-groups", router.top_groups, 0, 1 << 16, "deepseek: groups a token may use; 0: half");
  add_number(app, "--scaling", router.scaling_factor, 0.01f, 100.0f, "deepseek: factor on all weights");
}

void add_run(CLI::App& app) {
  CLI::App* run =
      app.add_subcommand("run", "One MoE layer over a text, exchanged between ranks and checked bit for bit");
  run->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  const auto options = std::make_shared<LayerOptions>();
  LayerOptions& o = *options;
  o.config.hidden = 1024, o.config.num_experts = 64, o.config.top_k = 8;
  add_shape_flags(*run, o.config, o.num_ranks);
  add_number(*run, "--inter", o.inter, 1, 1 << 16, "Inner width of an expert");
  run->add_option("--tokens", o.tokens,
                  "Tokens per rank; the text repeats if it is shorter. Default: the text, at most 512 a rank")
      ->check(CLI::Range(1, kMostTokens));
  add_row_flags(*run, o.config);
  add_router_flags(*run, o.router);
  run->add_option("--text", o.text,
                  "File whose bytes are the tokens. Default: README.md of the repository or installation");
  run->add_flag("--binary", o.binary, "Take a --text that is no text");
  run->add_option("--record", o.record, "Write the routing as a trace (docs/traces.md)");
  run->add_option("--trace", o.trace, "Replay the routing of a trace; it sets ranks, experts, top-k and tokens");
  run->add_option("--seed", o.seed, "Seed of embedding, router and experts")->capture_default_str();
  add_number(*run, "--repeat", o.repeat, 1, 10000, "Times that dispatch and combine are run and measured");
  run->add_flag("--processes", o.processes, "Ranks are processes, not threads");
  add_device_flag(*run, o.devices);
  run->add_option("--deadline-ms", o.deadline_ms,
                  "Longest wait for another rank, 0: no limit. Default: CROSSDOCK_DEADLINE_MS")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  run->add_flag("--json", o.json, "Print JSON");
  run->add_flag("--progress", o.progress, "Say every step on stderr even if it is no terminal");
  run->callback([options, run] {
    options->progress |= isatty(STDERR_FILENO) == 1;
    options->backend = backend_of_verbs();
    options->ranks_given = run->count("--ranks") > 0;
    options->experts_given = run->count("--experts") > 0;
    options->top_k_given = run->count("--topk") > 0;
    run_layer(*options);
  });
}

const Verb kVerb{10, add_run};

}  // namespace
}  // namespace crossdock::tools
