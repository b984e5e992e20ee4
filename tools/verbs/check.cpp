// SPDX-License-Identifier: Apache-2.0
// `crossdock check`: the cases of a JSON file, dispatch and combine, bit for bit against the oracle on every rank.
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "jobs/check_run.hpp"
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
  std::string verdict;  // pass, fail, xfail, xpass
  std::string why;
  double seconds = 0, run_seconds = 0;
  std::int64_t rows = 0, dropped = 0;
};

Line judge(const CheckCase& c, int number, const Options& o) {
  const auto start = std::chrono::steady_clock::now();
  CheckOptions options = o.check;
  options.dispatch_blocks = c.dispatch_blocks;
  options.combine_blocks = c.combine_blocks;
  if (options.rank >= 0) options.meeting += "-" + std::to_string(number);
  if (options.rank >= c.problem.shape.num_ranks)
    throw BadInput("--rank " + std::to_string(options.rank) + ": case `" + c.name + "` has " +
                   std::to_string(c.problem.shape.num_ranks) + " ranks");
  const Verdict verdict = check_problem(c.problem, options);
  Line line{c, "", verdict.why, 0, verdict.run_seconds, verdict.rows_received, verdict.rows_dropped};
  line.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  line.verdict = c.known_failure.empty() ? (verdict.right ? "pass" : "fail") : (verdict.right ? "xpass" : "xfail");
  return line;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += (all.empty() ? "" : ", ") + part;
  return all;
}

void print_line(const Line& line) {
  const oracle::Case& c = line.of.problem.shape;
  std::string notes = joined(line.of.drawn);
  if (!line.of.requires_arch.empty())
    notes += (notes.empty() ? "" : "; ") + ("asked for " + joined(line.of.requires_arch));
  if (line.dropped) notes += (notes.empty() ? "" : "; ") + std::to_string(line.dropped) + " rows dropped";
  std::printf("%-5s %-58s W %d  T %5d  H %5d  %8lld rows %7.2f s  %s\n", line.verdict.c_str(), line.of.name.c_str(),
              c.num_ranks, c.max_tokens_per_rank, c.hidden, static_cast<long long>(line.rows), line.seconds,
              notes.c_str());
  if (!line.why.empty()) std::printf("      %s\n", line.why.c_str());
  if (!line.of.known_failure.empty()) std::printf("      known: %s\n", line.of.known_failure.c_str());
  std::fflush(stdout);
}

void print_json(const Line& line) {
  const Problem& p = line.of.problem;
  nlohmann::ordered_json j;
  j["name"] = line.of.name;
  j["verdict"] = line.verdict;
  j["why"] = line.why;
  j["seconds"] = line.seconds;
  j["run_seconds"] = line.run_seconds;
  j["ranks"] = p.shape.num_ranks;
  j["max_tokens_per_rank"] = p.shape.max_tokens_per_rank;
  j["hidden"] = p.shape.hidden;
  j["experts"] = p.shape.num_experts;
  j["topk"] = p.shape.top_k;
  j["dtype"] = name_of(p.shape.dispatch_dtype);
  j["combine_dtype"] = name_of(p.shape.combine_dtype);
  j["layout"] = name_of(p.shape.layout);
  j["path"] = name_of(p.path);
  j["combine_quant"] = name_of(p.shape.combine_quant);
  j["routing"] = routing_name(p);
  j["row_capacity"] = oracle::row_capacity(p.shape);
  j["rows_received"] = line.rows;
  j["rows_dropped"] = line.dropped;
  j["drawn"] = line.of.drawn;
  j["requires_arch"] = line.of.requires_arch;
  j["known_failure"] = line.of.known_failure;
  j["skip_profile"] = line.of.skip_profile;
  j["skip_ci"] = line.of.skip_ci;
  std::printf("%s\n", j.dump().c_str());
  std::fflush(stdout);
}

/// The cases that are asked for: every parts-th one, or that of a name.
std::vector<CheckCase> wanted_cases(const Options& o) {
  int part = 0, parts = 0;
  char rest = 0;
  if (std::sscanf(o.part.c_str(), "%d/%d%c", &part, &parts, &rest) != 2 || part < 0 || part >= parts)
    throw BadInput("--part " + o.part + ": write I/N with 0 <= I < N");
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
    ++run;
    failed += line.verdict == "fail";
  }
  if (run == 0 && skipped == 0)
    throw BadInput(o.name.empty() ? o.file + " has no case" : o.file + " has no case `" + o.name + "`");
  if (!o.json)
    std::printf("%d cases, %d failed%s\n", run, failed,
                skipped ? (", " + std::to_string(skipped) + " not for CI").c_str() : "");
  if (failed) throw Failed("check: " + std::to_string(failed) + " of " + std::to_string(run) + " cases failed");
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
  verb->add_option("--rounds", o->check.rounds, "Dispatch and combine this often")
      ->check(CLI::Range(1, 1000000))
      ->capture_default_str();
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
