// SPDX-License-Identifier: Apache-2.0
// `crossdock check`: the cases of a JSON file, dispatch and combine, bit for bit against the oracle on every rank.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "jobs/check_run.hpp"
#include "machine/times.hpp"
#include "problem/cases.hpp"

namespace crossdock::tools {
namespace {

struct Options {
  std::string file, name;
  CaseOptions cases;
  CheckOptions check;
  std::string part = "0/1";  // which of how many parts of the file
  int deadline_ms = 30000;
  bool ci = false, json = false;
};

struct Line {
  CheckCase of;
  Verdict found;
  double seconds = 0;

  const char* verdict() const {
    if (of.known_failure.empty()) return found.right ? "pass" : "fail";
    return found.right ? "xpass" : "xfail";
  }
};

Line judge(const CheckCase& c, int number, const Options& o) {
  const auto start = SteadyClock::now();
  CheckOptions options = o.check;
  options.dispatch_blocks = c.dispatch_blocks;
  options.combine_blocks = c.combine_blocks;
  if (options.rank >= 0) options.meeting += fmt::format("-{}", number);
  if (options.rank >= c.problem.shape.num_ranks)
    throw BadInput("--rank {}: case `{}` has {} ranks", options.rank, c.name, c.problem.shape.num_ranks);
  Line line{c, check_problem(c.problem, options)};
  line.seconds = us_since(start) / 1e6;
  return line;
}

void print_line(const Line& line) {
  const oracle::Case& c = line.of.problem.shape;
  std::vector<std::string> notes;
  if (!line.of.drawn.empty()) notes.push_back(fmt::format("{}", fmt::join(line.of.drawn, ", ")));
  if (!line.of.requires_arch.empty())
    notes.push_back(fmt::format("asked for {}", fmt::join(line.of.requires_arch, ", ")));
  if (line.found.rows_dropped) notes.push_back(fmt::format("{} rows dropped", line.found.rows_dropped));
  fmt::print("{:<5} {:<58} W {}  T {:5}  H {:5}  {:8} rows {:7.2f} s  {}\n", line.verdict(), line.of.name, c.num_ranks,
             c.max_tokens_per_rank, c.hidden, line.found.rows_received, line.seconds, fmt::join(notes, "; "));
  if (!line.found.why.empty()) fmt::print("      {}\n", line.found.why);
  if (!line.of.known_failure.empty()) fmt::print("      known: {}\n", line.of.known_failure);
}

void print_json(const Line& line) {
  const Problem& p = line.of.problem;
  const nlohmann::ordered_json json = {{"name", line.of.name},
                                       {"verdict", line.verdict()},
                                       {"why", line.found.why},
                                       {"seconds", line.seconds},
                                       {"run_seconds", line.found.run_seconds},
                                       {"ranks", p.shape.num_ranks},
                                       {"max_tokens_per_rank", p.shape.max_tokens_per_rank},
                                       {"hidden", p.shape.hidden},
                                       {"experts", p.shape.num_experts},
                                       {"topk", p.shape.top_k},
                                       {"dtype", name_of(p.shape.dispatch_dtype)},
                                       {"combine_dtype", name_of(p.shape.combine_dtype)},
                                       {"layout", name_of(p.shape.layout)},
                                       {"path", name_of(p.path)},
                                       {"combine_quant", name_of(p.shape.combine_quant)},
                                       {"routing", routing_name(p)},
                                       {"row_capacity", oracle::row_capacity(p.shape)},
                                       {"rows_received", line.found.rows_received},
                                       {"rows_dropped", line.found.rows_dropped},
                                       {"drawn", line.of.drawn},
                                       {"requires_arch", line.of.requires_arch},
                                       {"known_failure", line.of.known_failure},
                                       {"skip_profile", line.of.skip_profile},
                                       {"skip_ci", line.of.skip_ci}};
  fmt::print("{}\n", json.dump());
}

/// The cases that are asked for: every parts-th one, or that of a name.
std::vector<CheckCase> wanted_cases(const Options& o) {
  int part = 0, parts = 0;
  char rest = 0;
  if (std::sscanf(o.part.c_str(), "%d/%d%c", &part, &parts, &rest) != 2 || part < 0 || part >= parts)
    throw BadInput("--part {}: write I/N with 0 <= I < N", o.part);
  std::vector<CheckCase> wanted;
  int idx = 0;
  for (CheckCase& c : read_cases(o.file, o.cases))
    if (idx++ % parts == part && (o.name.empty() || c.name == o.name)) wanted.push_back(std::move(c));
  return wanted;
}

void check(const Options& o) {
  int run = 0, failed = 0, skipped = 0;
  for (const CheckCase& c : wanted_cases(o)) {
    if (o.ci && c.skip_ci) {
      ++skipped;
      continue;
    }
    const Line line = judge(c, run, o);
    o.json ? print_json(line) : print_line(line);
    std::fflush(stdout);
    ++run;
    failed += line.of.known_failure.empty() && !line.found.right;
  }
  if (run == 0 && skipped == 0)
    throw BadInput("{} has no case{}", o.file, o.name.empty() ? "" : fmt::format(" `{}`", o.name));
  if (!o.json)
    fmt::print("{} cases, {} failed{}\n", run, failed, skipped ? fmt::format(", {} not for CI", skipped) : "");
  if (failed) throw Failed("check: {} of {} cases failed", failed, run);
}

void add_check(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("check", "Run the cases of a file and compare every bit on every rank with the oracle");
  verb->add_option("--cases", o->file, "JSON list of cases; keys: docs/cases.md")->required()->check(CLI::ExistingFile);
  verb->add_option("--name", o->name, "Only the case of this name");
  verb->add_option("--part", o->part, "I/N: every N-th case from the I-th on, so that N commands share a file");
  verb->add_option("--ranks", o->cases.num_ranks, "Ranks, instead of each case's world_size")
      ->check(CLI::Range(1, kMaxRanks));
  verb->add_option("--scale-hidden", o->cases.scale_hidden, "Divide hidden sizes by this")
      ->check(CLI::Range(1, 1 << 20));
  verb->add_option("--max-tokens-per-rank", o->cases.most_tokens, "Cut max_tokens_per_rank to this")
      ->check(CLI::Range(1, 1 << 24));
  verb->add_option("--seed", o->cases.seed, "Draws _random_fields")->capture_default_str();
  add_number(*verb, "--rounds", o->check.rounds, 1, 1000000, "Dispatch and combine this often");
  verb->add_option("--deadline-ms", o->deadline_ms, "Longest wait for a peer; 0: none")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  verb->add_flag("--processes", o->check.processes, "Ranks are processes, not threads");
  verb->add_option("--rank", o->check.rank, "Only this rank; the others are started by commands of their own")
      ->check(CLI::Range(0, kMaxRanks - 1));
  verb->add_option("--meeting", o->check.meeting,
                   "With --rank: a name that is the same for all ranks and for no other job");
  add_device_flag(*verb, o->check.devices);
  verb->add_flag("--ci", o->ci, "Leave out cases marked skip_ci");
  verb->add_flag("--json", o->json, "A JSON object a line");
  verb->callback([o] {
    if ((o->check.rank >= 0) == o->check.meeting.empty()) throw BadInput("--rank and --meeting belong together");
    o->check.backend = backend_of_verbs();
    o->check.deadline = std::chrono::milliseconds(o->deadline_ms);
    check(*o);
  });
}

const Verb kVerb{20, add_check};

}  // namespace
}  // namespace crossdock::tools
