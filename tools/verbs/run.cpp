// SPDX-License-Identifier: Apache-2.0
// `crossdock run`: one MoE layer over a text, by ranks that exchange their tokens, checked against the dense layer.
#include <iostream>
#include <memory>
#include <random>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "layer/layer_report.hpp"
#include "machine/machine.hpp"
#include "ranks/ranks.hpp"

namespace crossdock::tools {
namespace {

/// A name no other job has.
std::string meeting_name() {
  std::random_device random;
  char name[64];
  std::snprintf(name, sizeof name, "run-%08x%08x%08x", random(), random(), random());
  return name;
}

void throw_what_went_wrong(const std::vector<Ending>& endings, const Shared& shared) {
  std::string deaths, failures;
  for (const Ending& ending : endings) {
    const RankReport& report = shared.reports[static_cast<std::size_t>(ending.rank)];
    if (report.bad_input) throw BadInput(report.failure);  // every rank says the same
    if (*report.failure)
      failures +=
          (failures.empty() ? "" : "\n  ") + ("rank " + std::to_string(ending.rank) + " says: ") + report.failure;
    else if (!ending.why.empty())
      deaths += (deaths.empty() ? "" : "; ") + ending.why;
  }
  if (!deaths.empty() && !failures.empty()) deaths += "\n  ";
  if (!(deaths + failures).empty()) throw Failed(deaths + failures);
}

/// Runs all ranks; throws Failed with what every failed rank says.
void run_ranks(const LayerJob& job, const Model& model, Shared& shared, ProgressLine& line) {
  Watch watch;
  watch.tick = [&] { line.draw(); };
  watch.on_failure = [&] { shared.barrier[0].stop(); };
  const std::int64_t deadline_ms = job.options.deadline_ms;
  if (deadline_ms > 0) watch.patience = std::chrono::milliseconds(deadline_ms + 10000);
  std::vector<Ending> endings;
  if (job.options.processes) {
    const std::string meeting = meeting_name();
    endings = run_as_processes(
        job.num_ranks(), [&](int rank) { return run_rank(job, model, shared, nullptr, meeting, rank); }, watch);
  } else {
    const ThreadTeam team(job.num_ranks());
    endings = run_as_threads(
        job.num_ranks(), [&](int rank) { return run_rank(job, model, shared, &team, "", rank); }, watch);
  }
  throw_what_went_wrong(endings, shared);
}

void record(const LayerJob& job, Shared& shared) {
  Trace trace;
  trace.num_experts = job.options.config.num_experts;
  trace.top_k = job.options.config.top_k;
  trace.tokens = job.tokens;
  trace.ids.assign(shared.ids.all().begin(), shared.ids.all().end());
  trace.weights.assign(shared.weights.all().begin(), shared.weights.all().end());
  trace.note = job.trace ? job.trace->note
                         : std::string(kRouterNames[static_cast<int>(job.options.router.kind)]) + " router over " +
                               job.text.path;
  write_trace(job.options.record, trace);
}

void run_layer(const LayerOptions& options) {
  const LayerJob job = prepare(options);
  Shared shared(job);
  {
    ProgressLine line(options.progress ? Show::always : Show::on_terminal, shared.progress);
    const Model model(job.model);
    run_ranks(job, model, shared, line);
  }
  if (!options.record.empty()) record(job, shared);
  const LayerSummary summary(job, shared);
  if (options.json)
    std::cout << json_of(summary).dump(2) << "\n";
  else
    std::cout << text_of(summary);
  if (const std::string complaint = complaint_of(summary); !complaint.empty()) throw Failed(complaint);
}

void add_router_flags(CLI::App& app, RouterShape& router) {
  add_enum(app, "--router", router.kind, kRouterNames, "Who picks the experts");
  app.add_option("--groups", router.num_groups, "deepseek: groups of experts; 0: up to 8")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  app.add_option("--topk-groups", router.top_groups, "deepseek: groups a token may use; 0: half")
      ->check(CLI::Range(0, 1 << 16))
      ->capture_default_str();
  app.add_option("--scaling", router.scaling_factor, "deepseek: factor on all weights")
      ->check(CLI::Range(0.01, 100.0))
      ->capture_default_str();
}

void add_run(CLI::App& app) {
  CLI::App* run =
      app.add_subcommand("run", "One MoE layer over a text, exchanged between ranks and checked bit for bit");
  run->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  const auto options = std::make_shared<LayerOptions>();
  LayerOptions& o = *options;
  o.config.hidden = 1024, o.config.num_experts = 64, o.config.top_k = 8;
  add_shape_flags(*run, o.config, o.num_ranks);
  run->add_option("--inter", o.inter, "Inner width of an expert")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  run->add_option("--tokens", o.tokens,
                  "Tokens per rank; the text repeats if it is shorter. Default: the text, at most 512 a rank")
      ->check(CLI::Range(1, (1 << 24) - 1));
  add_row_flags(*run, o.config);
  add_router_flags(*run, o.router);
  run->add_option("--text", o.text,
                  "File whose bytes are the tokens. Default: README.md of the repository or installation");
  run->add_flag("--binary", o.binary, "Take a --text that is no text");
  run->add_option("--record", o.record, "Write the routing as a trace (docs/traces.md)");
  run->add_option("--trace", o.trace, "Replay the routing of a trace; it sets ranks, experts, top-k and tokens");
  run->add_option("--seed", o.seed, "Seed of embedding, router and experts")->capture_default_str();
  run->add_option("--repeat", o.repeat, "Times that dispatch and combine are run and measured")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  run->add_flag("--processes", o.processes, "Ranks are processes, not threads");
  add_device_flag(*run, o.devices);
  run->add_option("--deadline-ms", o.deadline_ms,
                  "Longest wait for another rank, 0: no limit. Default: CROSSDOCK_DEADLINE_MS")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  run->add_flag("--json", o.json, "Print JSON");
  run->add_flag("--progress", o.progress, "Show progress on stderr even if it is no terminal");
  run->callback([options, run] {
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
