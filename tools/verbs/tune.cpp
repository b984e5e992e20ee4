// SPDX-License-Identifier: Apache-2.0
// `crossdock tune`: tries a few geometries for each number of tokens, by the measurements of bench, and writes what beats the
// library's rule into a tuning file. Results are compared with the oracle's as in bench.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "commit.hpp"
#include "crossdock/crossdock.hpp"
#include "jobs/tuning_search.hpp"
#include "ranks/rank_threads.hpp"
#include "report/bench_record.hpp"
#include "report/tuning_file.hpp"

namespace crossdock::tools {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  Config config;
  int num_ranks = 4;
  Path path = Path::staged;
  std::vector<int> tokens{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
  int repeat = 30, time_limit_s = 600;
  std::string out;
  std::vector<int> devices;
};

/// What was found over all calls.
struct Summary {
  int calls = 0, faster = 0, left_out = 0;
  double log_gain = 0;
};

GroupOptions untuned(const Machine& machine, int rank) {
  GroupOptions options = group_options(machine, rank);
  options.tuning_file = "none";
  return options;
}

std::string title_of(const Options& o, Machine& machine) {
  machine.use(0);
  const std::string model = Group::join(ThreadTeam(1), 0, untuned(machine, 0)).device_model();
  return std::string("crossdock-tuning 1 version=") + version() + " ranks=" + std::to_string(o.num_ranks) +
         " device=" + model;
}

/// The keys of a call, but for its tokens.
std::string call_of(const Options& o, Op op) {
  const Config& c = o.config;
  std::string text = "op=" + std::string(kOpNames[static_cast<int>(op)]);
  if (op == Op::combine) text += " path=" + std::string(name_of(o.path));
  text += " dtype=" + std::string(name_of(op == Op::combine ? c.combine_dtype : c.dispatch_dtype));
  return text + " hidden=" + std::to_string(c.hidden) + " topk=" + std::to_string(c.top_k) +
         " experts_per_rank=" + std::to_string((c.num_experts + o.num_ranks - 1) / o.num_ranks) + " tokens=";
}

std::string wish_of(const CallOptions& asked) {
  std::string text;
  const auto add = [&](const char* key, int value) {
    if (value > 0) text += std::string(" ") + key + "=" + std::to_string(value);
  };
  add("num_blocks", asked.num_blocks);
  add("num_warps", asked.num_warps);
  add("splits_per_row", asked.splits_per_row);
  return text;
}

std::string shown(const Trial& trial) {
  char text[64];
  std::snprintf(text, sizeof text, "%9.2f us (%d x %d, %d)", trial.us, trial.launch.num_blocks, trial.launch.num_warps,
                trial.launch.splits_per_row);
  return text;
}

/// Fused, combine alone consumes a dispatch and cannot be recorded.
Mode mode_of(const Options& o, Op op) { return o.path == Path::fused && op == Op::combine ? Mode::eager : Mode::graph; }

Found search_on(Bench& bench, const Options& o, Op op, const std::function<bool()>& out_of_time) {
  const Time time = [&](const CallOptions& asked, int repeat) {
    const Timing timing = bench.time({op, mode_of(o, op), asked, repeat, 2});
    if (!timing.wrong.empty())
      throw Failed("tune: with " + wish_of(asked) + " the result differs from the oracle's: " + timing.wrong);
    return Trial{asked, op == Op::dispatch ? timing.dispatch : timing.combine, quantile(timing.us, 0.5)};
  };
  return search(time, o.repeat, out_of_time);
}

/// The library takes the file, in a group such as it is for.
void try_file(const Options& o, Machine& machine) {
  const ThreadTeam team(o.num_ranks);
  RankThreads(o.num_ranks).run([&](int rank) {
    machine.use(rank);
    GroupOptions options = group_options(machine, rank);
    options.tuning_file = o.out;
    Group::join(team, rank, options);
  });
}

void summarise(const Options& o, const Summary& s) {
  const double mean = s.calls ? 100 * (1 - std::exp(s.log_gain / s.calls)) : 0;
  std::printf("%d of %d calls are faster than by the rule; %.1f %% less time on average", s.faster, s.calls, mean);
  if (s.left_out)
    std::printf("; %d calls were left out: the time limit of %d s had passed", s.left_out, o.time_limit_s);
  std::printf("\n%s: set CROSSDOCK_TUNING_FILE to it, or GroupOptions::tuning_file\n", o.out.c_str());
}

/// Both operators of one number of tokens.
void tune_tokens(Options& o, int tokens, Measurer& measurer, const std::function<bool()>& out_of_time, TuningFile& file,
                 Summary& summary) {
  o.config.max_tokens_per_rank = tokens;
  const Data data(problem_of(o.config, o.num_ranks));
  const std::vector<oracle::RankResult> expected = expected_results(data);
  const std::unique_ptr<Bench> bench = measurer.open(data, expected);
  for (const Op op : {Op::dispatch, Op::combine}) {
    const Found found = search_on(*bench, o, op, out_of_time);
    file.set(call_of(o, op) + std::to_string(tokens), wish_of(found.best.asked));
    ++summary.calls;
    summary.faster += found.gain() > 0;
    summary.log_gain += std::log(1 - found.gain());
    std::printf("%-8s %6d tokens  rule %s  best %s  gain %4.1f %%, %d tried\n", kOpNames[static_cast<int>(op)].data(),
                tokens, shown(found.rule).c_str(), shown(found.best).c_str(), 100 * found.gain(), found.tried);
    std::fflush(stdout);
  }
}

void tune(Options& o) {
  o.config.zero_copy = o.path == Path::zero_copy;
  o.config.fused = o.path == Path::fused;
  for (const int tokens : o.tokens) {
    o.config.max_tokens_per_rank = tokens;
    require_support(o.config, o.num_ranks);
  }
  ::setenv("CROSSDOCK_TUNING_FILE", "none", 1);  // what an earlier file says is not the rule
  const std::shared_ptr<Machine> machine = open_machine(backend_of_verbs(), o.devices);
  const std::unique_ptr<Measurer> measurer = make_queue_measurer(machine);
  TuningFile file(o.out, title_of(o, *machine));
  const std::string comment = now() + ", commit " CROSSDOCK_COMMIT ", " + measurer->host() + ", " + measurer->driver();
  const auto end = Clock::now() + std::chrono::seconds(o.time_limit_s);
  const auto out_of_time = [&] { return Clock::now() >= end; };
  std::printf("# %s\n# us of a call, median of %d; in brackets blocks x warps, splits_per_row\n", comment.c_str(),
              o.repeat);
  Summary summary;
  file.write(comment);  // where that is impossible, it is said at once
  for (const int tokens : o.tokens) {
    if (out_of_time()) {
      summary.left_out += 2;
      continue;
    }
    tune_tokens(o, tokens, *measurer, out_of_time, file, summary);
    file.write(comment);
  }
  try_file(o, *machine);
  summarise(o, summary);
}

void add_tune(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("tune", "Find blocks, warps and splits_per_row that beat the rule; write a tuning file");
  o->config.hidden = 7168, o->config.num_experts = 256, o->config.top_k = 8;
  add_shape_flags(*verb, o->config, o->num_ranks);
  add_enum(*verb, "--dtype", o->config.dispatch_dtype, kDtypeNames, "Rows of dispatch");
  add_enum(*verb, "--combine-dtype", o->config.combine_dtype, kDtypeNames, "Rows of combine and of the result");
  add_enum(*verb, "--path", o->path, kPathNames, "How expert outputs reach combine");
  verb->add_option("--scale-bytes", o->config.scale_bytes, "Bytes that travel with each token of dispatch");
  verb->add_option("--tokens", o->tokens, "Tokens of each rank, by commas; each is the upper end of a bucket")
      ->delimiter(',')
      ->check(CLI::Range(1, (1 << 24) - 1))
      ->capture_default_str();
  verb->add_option("--repeat", o->repeat, "Timed repetitions of each trial")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  verb->add_option("--time-limit-s", o->time_limit_s, "No trial begins after so many seconds")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  verb->add_option("-o,--out", o->out, "The tuning file; what it says of other calls stays")->required();
  add_device_flag(*verb, o->devices);
  verb->callback([o] { tune(*o); });
}

const Verb kVerb{32, add_tune};

}  // namespace
}  // namespace crossdock::tools
