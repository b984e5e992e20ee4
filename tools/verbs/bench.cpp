// SPDX-License-Identifier: Apache-2.0
// `crossdock bench`: times of dispatch and combine along axes. Nothing is timed whose result differs from the oracle.
#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <memory>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "commit.hpp"
#include "jobs/creation.hpp"
#include "problem/verify.hpp"
#include "report/bench_report.hpp"

namespace crossdock::tools {
namespace {

constexpr int kUsualRanks = 4, kUsualTokens = 1024, kUsualExperts = 256, kUsualTopk = 8;
constexpr std::string_view kNoYes[] = {"no", "yes"};
constexpr const char* kTrace = "trace";

/// Axes as they were given, lists by commas.
struct Options {
  std::vector<int> ranks, tokens, experts, topk;  // empty: what is usual, or the trace's
  std::vector<int> hidden{7168}, scale_bytes{0}, num_sms{0}, num_blocks{0}, num_warps{0}, splits_per_row{0};
  std::vector<Dtype> dtype{Dtype::bf16}, combine_dtype;
  std::vector<Layout> layout{Layout::token_major};
  std::vector<Path> path{Path::staged};
  std::vector<CombineQuant> combine_quant{CombineQuant::none};
  std::vector<std::string> routing{"random"};  // a name of the oracle's, or kTrace
  std::vector<int> combine_topk_weights{0};    // as in kNoYes
  std::vector<Op> op{Op::dispatch, Op::combine, Op::pair};
  std::vector<Mode> mode;
  int repeat = 0, warm_up = 2;  // 0: 200 for queues, 20 for the CPU
  std::int64_t copy_mib = 2048;
  bool limits = false, create = false, by_queues = false;
  std::vector<int> devices;
  std::string jsonl, csv, compare, tuning, floor, trace_file;
  std::shared_ptr<const Trace> trace;  // read from trace_file
};

oracle::Routing routing_of(const std::string& name) {
  if (const auto routing = oracle::routing_named(name)) return *routing;
  std::string all = kTrace;
  for (const oracle::Routing routing : oracle::kRoutings) all += fmt::format(", {}", oracle::name_of(routing));
  throw BadInput("--routing: there is no `{}`; there are {}", name, all);
}

/// Replaces each of `all` by copies in which every value has been set; leaves them without values.
template <class Of, class Value, class Set>
void spread(std::vector<Of>& all, const std::vector<Value>& values, Set set) {
  if (values.empty()) return;
  std::vector<Of> more;
  for (const Of& of : all)
    for (const Value& value : values) set(more.emplace_back(of), value);
  all = std::move(more);
}

/// The product of all axes that make a problem, the last one fastest. What is plain comes first: over its times the others' count.
std::vector<Problem> problems_of(Options& o) {
  std::stable_partition(o.layout.begin(), o.layout.end(), [](Layout v) { return v == Layout::token_major; });
  std::stable_partition(o.combine_topk_weights.begin(), o.combine_topk_weights.end(), [](int v) { return v == 0; });
  std::vector<Problem> all{Problem{}};
  spread(all, o.ranks, [](Problem& p, int v) { p.shape.num_ranks = v; });
  spread(all, o.hidden, [](Problem& p, int v) { p.shape.hidden = v; });
  spread(all, o.experts, [](Problem& p, int v) { p.shape.num_experts = v; });
  spread(all, o.topk, [](Problem& p, int v) { p.shape.top_k = v; });
  spread(all, o.routing, [&o](Problem& p, const std::string& v) {
    v == kTrace ? (void)(p.trace = o.trace) : (void)(p.routing = routing_of(v));
  });
  spread(all, o.dtype, [](Problem& p, Dtype v) { p.shape.dispatch_dtype = p.shape.combine_dtype = v; });
  spread(all, o.combine_dtype, [](Problem& p, Dtype v) { p.shape.combine_dtype = v; });
  spread(all, o.scale_bytes, [](Problem& p, int v) { p.shape.scale_bytes = v; });
  spread(all, o.layout, [](Problem& p, Layout v) { p.shape.layout = v; });
  spread(all, o.combine_topk_weights, [](Problem& p, int v) { p.second_result = v == 1; });
  spread(all, o.path, [](Problem& p, Path v) { p.path = v; });
  spread(all, o.combine_quant, [](Problem& p, CombineQuant v) { p.shape.combine_quant = v; });
  spread(all, o.tokens, [](Problem& p, int v) {
    p.shape.max_tokens_per_rank = v;
    if (p.trace) follow_trace(p, p.trace, v);
  });
  return all;
}

std::vector<Run> runs_of(const Options& o, Mode usual_mode) {
  const int repeat = o.repeat ? o.repeat : usual_mode == Mode::graph ? 200 : 20;
  std::vector<Run> all{{Op::pair, usual_mode, {}, repeat, o.warm_up}};
  spread(all, o.op, [](Run& run, Op v) { run.op = v; });
  spread(all, o.mode, [](Run& run, Mode v) { run.mode = v; });
  spread(all, o.num_sms, [](Run& run, int v) { run.geometry.num_sms = v; });
  spread(all, o.num_blocks, [](Run& run, int v) { run.geometry.num_blocks = v; });
  spread(all, o.num_warps, [](Run& run, int v) { run.geometry.num_warps = v; });
  spread(all, o.splits_per_row, [](Run& run, int v) { run.geometry.splits_per_row = v; });
  return all;
}

Setting setting_of(const Measurer& measurer) {
  return {CROSSDOCK_COMMIT, measurer.basis.host, measurer.basis.driver, now(), measurer.basis.limit_is_of_link};
}

Record refused(const Problem& problem, const Run& run, const std::string& reason) {
  Record record;
  record.problem = problem;
  record.run = run;
  record.refused = reason;
  return record;
}

/// All runs on one problem; its data and the oracle's answer are made once.
std::vector<Record> bench_problem(Measurer& measurer, const Problem& problem, const std::vector<Run>& runs) {
  std::vector<Record> records;
  const Support support = supports(config_of(problem), problem.shape.num_ranks);
  if (!support) {
    for (const Run& run : runs) records.push_back(refused(problem, run, support.reason));
    return records;
  }
  const Data data(problem);
  const std::vector<oracle::RankResult> expected = expected_results(data);
  const std::unique_ptr<Bench> bench = measurer.open(data, expected);
  const double error = relative_error(data, expected);
  for (const Run& run : runs) {
    const std::string reason = bench->refuses(run);
    records.push_back(reason.empty() ? record_of(data, run, bench->time(run)) : refused(problem, run, reason));
    if (reason.empty() && combines(run.op)) records.back().rel_error = error;
  }
  return records;
}

void bench_limits(const Options& o, Measurer& measurer) {
  for (const int num_ranks : o.ranks) {
    if (num_ranks < 1 || num_ranks > kMaxRanks) throw BadInput("--ranks: {}; must be 1 to {}", num_ranks, kMaxRanks);
    const std::vector<Limit> limits = measurer.limits(num_ranks);
    if (o.ranks.size() > 1) fmt::print("# ranks {}\n", num_ranks);
    for (const Limit& limit : limits) print_limit(limit);
    if (!o.jsonl.empty()) append_json_lines(o.jsonl, lines_of(limits, setting_of(measurer)));
  }
}

/// Throws for whatever makes a bench fail: a wrong result, a regression, or nothing that was timed.
void judge(const Options& o, double signal_us, const std::vector<Record>& all) {
  for (const Record& record : all)
    if (!record.wrong.empty()) throw Failed("bench: a result differs from the oracle's: {}", record.wrong);
  if (std::none_of(all.begin(), all.end(), [](const Record& r) { return r.refused.empty(); }))
    throw BadInput("bench: every case was refused; the first: {}", all.front().refused);
  if (const int misses = o.floor.empty() ? 0 : compare_with_floor(signal_us, all); misses && o.floor == "fail")
    throw Failed("bench: {} lines miss the floor", misses);
  if (!o.compare.empty() && compare_with_baseline(o.compare, all)) throw Failed("bench: slower than {}", o.compare);
}

/// Times of making what calls need. The machine is opened last: who has spoken to a driver cannot fork.
void bench_creation(Options& o) {
  constexpr int kRepeat = 5;
  const std::vector<Problem> problems = problems_of(o);
  std::vector<CreationTimes> times;
  for (const Problem& problem : problems) {
    require_support(config_of(problem), problem.shape.num_ranks);
    times.push_back(time_creation(problem, backend_of_verbs(), o.devices, o.repeat ? o.repeat : kRepeat));
  }
  const Setting setting = setting_of(*make_measurer(o.devices, o.copy_mib << 20, o.by_queues));
  std::vector<nlohmann::ordered_json> lines;
  for (std::size_t i = 0; i < problems.size(); ++i) {
    lines.push_back(creation_json("group", problems[i], setting, times[i].group_us));
    lines.push_back(creation_json("exchange", problems[i], setting, times[i].exchange_us));
  }
  print_head(setting, "each time in new processes, which have a context");
  for (const nlohmann::ordered_json& line : lines) fmt::print("{}\n", table_row(line));
  if (!o.jsonl.empty()) append_json_lines(o.jsonl, lines);
  if (!o.csv.empty()) write_csv(o.csv, lines);
}

/// Reads the trace, if there is one, and fills axes that were not given. Its ranks, experts and top-k are those of all problems.
void complete(Options& o) {
  if ((std::find(o.routing.begin(), o.routing.end(), kTrace) != o.routing.end()) == o.trace_file.empty())
    throw BadInput("bench: --routing trace and --trace FILE belong together; one of them is missing");
  if (!o.trace_file.empty()) o.trace = std::make_shared<const Trace>(read_trace(o.trace_file));
  const Trace* const t = o.trace.get();
  const auto fill = [&](const char* flag, std::vector<int>& values, int usual, int recorded) {
    for (const int value : values)
      if (t) require_recorded(flag, value, o.trace_file, recorded);
    if (values.empty()) values = {t ? recorded : usual};
  };
  fill("--ranks", o.ranks, kUsualRanks, t ? t->num_ranks() : 0);
  fill("--experts", o.experts, kUsualExperts, t ? t->num_experts : 0);
  fill("--topk", o.topk, kUsualTopk, t ? t->top_k : 0);
  if (o.tokens.empty()) o.tokens = {t ? *std::max_element(t->tokens.begin(), t->tokens.end()) : kUsualTokens};
}

void bench(Options& o) {
  complete(o);
  if (!o.tuning.empty()) ::setenv("CROSSDOCK_TUNING_FILE", o.tuning.c_str(), 1);
  if (o.create) return bench_creation(o);
  const std::unique_ptr<Measurer> measurer = make_measurer(o.devices, o.copy_mib << 20, o.by_queues);
  if (o.limits) return bench_limits(o, *measurer);
  const Setting setting = setting_of(*measurer);
  const std::vector<Problem> problems = problems_of(o);
  const std::vector<Run> runs = runs_of(o, measurer->basis.usual_mode);
  std::vector<Record> all;
  const double signal_us = o.floor.empty() ? 0 : measurer->signal_us(*std::max_element(o.ranks.begin(), o.ranks.end()));
  print_head(setting, fmt::format("limit: {}. GB/s of a rank", measurer->basis.limit_name));
  for (const Problem& problem : problems) {
    std::vector<Record> records = bench_problem(*measurer, problem, runs);
    for (Record& record : records) {
      record.setting = setting;
      if (!o.floor.empty() && favours_experts(problem)) record.pattern_gbps = measurer->patterns_gbps(record.traffic);
      if (!o.floor.empty()) set_floor(record, signal_us);
      set_plain_time(record, all);
      print_line(record);
    }
    if (!o.jsonl.empty()) append_json_lines(o.jsonl, lines_of(records));  // what is measured stays, whatever comes next
    std::move(records.begin(), records.end(), std::back_inserter(all));
  }
  if (!o.csv.empty()) write_csv(o.csv, lines_of(all));
  judge(o, signal_us, all);
}

void add_axes(CLI::App& app, Options& o) {
  const auto numbers = [&](const char* flag, std::vector<int>& values, const char* help) {
    app.add_option(flag, values, help)->delimiter(',')->capture_default_str();
  };
  app.add_option("--trace", o.trace_file,
                 "Recorded routing for --routing trace; ranks, experts and top-k are its own, and "
                 "of each rank's tokens the first count");
  numbers("--ranks", o.ranks, "Ranks; without it 4");
  numbers("--tokens", o.tokens, "Tokens of each rank; without it 1024, or those of the trace");
  numbers("--hidden", o.hidden, "Elements of a row");
  numbers("--experts", o.experts, "Experts of all ranks together; without it 256");
  numbers("--topk", o.topk, "Experts of a token; without it 8");
  add_enums(app, "--dtype", o.dtype, kDtypeNames, "Type of the rows of dispatch");
  add_enums(app, "--combine-dtype", o.combine_dtype, kDtypeNames,
            "Type of the rows of combine; without it the type of dispatch");
  numbers("--scale-bytes", o.scale_bytes, "Bytes that travel with each token of dispatch");
  add_enums(app, "--layout", o.layout, kLayoutNames, "Layout of the received rows");
  add_enums(app, "--combine-topk-weights", o.combine_topk_weights, kNoYes, "Whether combine sums rows of weights too");
  add_enums(app, "--path", o.path, kPathNames, "How expert outputs reach combine");
  add_enums(app, "--combine-quant", o.combine_quant, kCombineQuantNames, "What crosses the link in combine");
  app.add_option("--routing", o.routing, "Where tokens go: a name, or trace")->delimiter(',')->capture_default_str();
  add_enums(app, "--op", o.op, kOpNames,
            "What is timed; pair: dispatch, then combine; replay: dispatch along a kept plan");
  add_enums(app, "--mode", o.mode, kModeNames,
            "graph of 20 calls, graph of 1, or calls; without it what suits the machine");
  numbers("--num-sms", o.num_sms, "Most thread blocks of a call; 0, here and below: not chosen by the call");
  numbers("--num-blocks", o.num_blocks, "Thread blocks of a call");
  numbers("--num-warps", o.num_warps, "Warps of a block");
  numbers("--splits-per-row", o.splits_per_row, "Parts of a row that different warps take");
}

void add_bench(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("bench", "Time dispatch and combine; every axis takes a list, by commas");
  add_axes(*verb, *o);
  verb->add_option("--repeat", o->repeat, "Timed repetitions; without it 200 on GPUs, 20 on the CPU")
      ->check(CLI::Range(1, 1000000));
  add_number(*verb, "--warm-up", o->warm_up, 0, 1000000, "Repetitions before them");
  add_number(*verb, "--copy-mib", o->copy_mib, 1, 1 << 20,
             "MiB that memcpy moves among, for the limit; more than the caches hold");
  verb->add_option("--jsonl", o->jsonl, "Append a JSON line per time to this file");
  verb->add_option("--csv", o->csv, "Write the times to this file as CSV");
  verb->add_option("--tuning", o->tuning, "Tuning file of `crossdock tune`, heard where the call chooses nothing")
      ->check(CLI::ExistingFile);
  CLI::Option* compare =
      verb->add_option("--compare", o->compare, "JSON lines of an earlier run; exit code 1 if something got slower");
  compare->check(CLI::ExistingFile);
  verb->add_option(
          "--floor", o->floor,
          "tell which lines miss 1.25 x floor + 3 us (routings that favour experts: 1.15 x floor, and 5 us for "
          "up to 128 tokens), or fail if one does: tell, fail")
      ->check(CLI::IsMember({"tell", "fail"}));
  add_device_flag(*verb, o->devices);
  verb->add_flag("--by-queues", o->by_queues, "On the CPU too, time as on GPUs: by marks in queues");
  CLI::Option* limits = verb->add_flag(
      "--limits", o->limits, "Measure what the machine itself can do, and nothing else; --ranks and --jsonl count");
  verb->add_flag("--create", o->create,
                 "Time making a group and an exchange in new processes, 5 times unless --repeat says, and nothing else")
      ->excludes(compare)
      ->excludes(limits);
  verb->callback([o] { bench(*o); });
}

const Verb kVerb{30, add_bench};

}  // namespace
}  // namespace crossdock::tools
