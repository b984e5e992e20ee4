// SPDX-License-Identifier: Apache-2.0
// `crossdock tune`: tries a few geometries for each number of tokens, by the measurements of bench, and writes what beats the
// library's rule into a tuning file. Results are compared with the oracle's as in bench.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "commit.hpp"
#include "crossdock/crossdock.hpp"
#include "jobs/tuning_search.hpp"
#include "machine/times.hpp"
#include "ranks/ranks.hpp"
#include "report/bench_record.hpp"

namespace crossdock::tools {
namespace {

struct Options {
  Config config;
  int num_ranks = 4;
  Path path = Path::staged;
  std::vector<int> tokens{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
  int repeat = 30, time_limit_s = 600;
  std::string out;
  std::vector<int> devices;
};

/// What the library reads as GroupOptions::tuning_file. What the file says already of other calls stays.
class TuningFile {
 public:
  /// Takes the entries of `path` if there is such a file; BadInput if it begins with another title than `title`.
  TuningFile(std::string path, std::string title) : path_(std::move(path)), title_(std::move(title)) {
    std::ifstream in(path_);
    bool titled = false;
    for (std::string line; std::getline(in, line);) {
      if (line.empty() || line[0] == '#') continue;
      if (!titled && line != title_)
        throw BadInput("{} begins with `{:.120}`, not with `{}`; give another file", path_, line, title_);
      if (titled) {
        const std::size_t end = std::min(line.find(' ', line.find("tokens=")), line.size());
        set(line.substr(0, end), line.substr(end));
      }
      titled = true;
    }
  }

  void set(const std::string& call, const std::string& request) { entries_[call] = request; }
  /// Written beside and then moved: nobody reads half a file. BadInput if it cannot be written.
  void write(const std::string& comment) const {
    const std::string beside = path_ + ".new";
    std::ofstream out(beside);
    out << title_ << "\n# " << comment << "\n";
    for (const auto& [call, request] : entries_) out << call << request << "\n";
    out.close();
    if (!out || std::rename(beside.c_str(), path_.c_str()) != 0) throw BadInput("cannot write {}", path_);
  }

 private:
  std::string path_, title_;
  std::map<std::string, std::string> entries_;  // keys of a call -> what is asked for it
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
  return fmt::format("crossdock-tuning 1 version={} ranks={} device={}", version(), o.num_ranks, model);
}

/// The keys of a call, but for its tokens.
std::string call_of(const Options& o, Op op) {
  const Config& c = o.config;
  return fmt::format("op={}{} dtype={} hidden={} topk={} experts_per_rank={} tokens=", kOpNames[static_cast<int>(op)],
                     op == Op::combine ? fmt::format(" path={}", name_of(o.path)) : "",
                     name_of(op == Op::combine ? c.combine_dtype : c.dispatch_dtype), c.hidden, c.top_k,
                     (c.num_experts + o.num_ranks - 1) / o.num_ranks);
}

std::string wish_of(const CallOptions& asked) {
  std::string text;
  const auto add = [&](const char* key, int value) {
    if (value > 0) text += fmt::format(" {}={}", key, value);
  };
  add("num_blocks", asked.num_blocks);
  add("num_warps", asked.num_warps);
  add("splits_per_row", asked.splits_per_row);
  return text;
}

std::string shown(const Trial& trial) {
  return fmt::format("{:9.2f} us ({} x {}, {})", trial.us, trial.launch.num_blocks, trial.launch.num_warps,
                     trial.launch.splits_per_row);
}

/// Fused, combine alone consumes a dispatch and cannot be recorded.
Mode mode_of(const Options& o, Op op) { return o.path == Path::fused && op == Op::combine ? Mode::eager : Mode::graph; }

Found search_on(Bench& bench, const Options& o, Op op, const std::function<bool()>& out_of_time) {
  const Time time = [&](const CallOptions& asked, int repeat) {
    const Timing timing = bench.time({op, mode_of(o, op), asked, repeat, 2});
    if (!timing.wrong.empty())
      throw Failed("tune: with {} the result differs from the oracle's: {}", wish_of(asked), timing.wrong);
    return Trial{asked, op == Op::dispatch ? timing.dispatch : timing.combine, median(timing.us)};
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
  fmt::print("{} of {} calls are faster than by the rule; {:.1f} % less time on average", s.faster, s.calls, mean);
  if (s.left_out) fmt::print("; {} calls were left out: the time limit of {} s had passed", s.left_out, o.time_limit_s);
  fmt::print("\n{}: set CROSSDOCK_TUNING_FILE to it, or GroupOptions::tuning_file\n", o.out);
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
    file.set(fmt::format("{}{}", call_of(o, op), tokens), wish_of(found.best.asked));
    ++summary.calls;
    summary.faster += found.gain() > 0;
    summary.log_gain += std::log(1 - found.gain());
    fmt::print("{:<8} {:6} tokens  rule {}  best {}  gain {:4.1f} %, {} tried\n", kOpNames[static_cast<int>(op)],
               tokens, shown(found.rule), shown(found.best), 100 * found.gain(), found.tried);
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
  const std::string comment =
      fmt::format("{}, commit {}, {}, {}", now(), CROSSDOCK_COMMIT, measurer->basis.host, measurer->basis.driver);
  const auto end = SteadyClock::now() + std::chrono::seconds(o.time_limit_s);
  const auto out_of_time = [&] { return SteadyClock::now() >= end; };
  fmt::print("# {}\n# us of a call, median of {}; in brackets blocks x warps, splits_per_row\n", comment, o.repeat);
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
      ->check(CLI::Range(1, kMostTokens))
      ->capture_default_str();
  add_number(*verb, "--repeat", o->repeat, 1, 100000, "Timed repetitions of each trial");
  add_number(*verb, "--time-limit-s", o->time_limit_s, 0, 1 << 20, "No trial begins after so many seconds");
  verb->add_option("-o,--out", o->out, "The tuning file; what it says of other calls stays")->required();
  add_device_flag(*verb, o->devices);
  verb->callback([o] { tune(*o); });
}

const Verb kVerb{32, add_tune};

}  // namespace
}  // namespace crossdock::tools
