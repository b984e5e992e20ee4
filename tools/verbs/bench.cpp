// SPDX-License-Identifier: Apache-2.0
// `crossdock bench`: times of dispatch and combine along axes. Nothing is timed whose result differs from the oracle.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <memory>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "commit.hpp"
#include "jobs/creation.hpp"
#include "jobs/pattern_rates.hpp"
#include "problem/accuracy.hpp"
#include "report/bench_report.hpp"

namespace crossdock::tools {
namespace {

constexpr int kUsualRanks = 4, kUsualTokens = 1024, kUsualExperts = 256, kUsualTopk = 8;

/// Axes as they were given: names and numbers, lists by commas.
struct Options {
  std::vector<int> ranks, tokens, experts, topk;  // empty: what is usual, or the trace's
  std::vector<int> hidden{7168}, scale_bytes{0}, num_sms{0}, num_blocks{0}, num_warps{0}, splits_per_row{0};
  std::vector<std::string> dtype{"bf16"}, combine_dtype, layout{"token_major"}, path{"staged"}, combine_quant{"none"},
      routing{"random"};
  std::vector<std::string> combine_topk_weights{"no"};
  std::vector<std::string> op{"dispatch", "combine", "pair"}, mode;
  int repeat = 0, warm_up = 2;  // 0: 200 for queues, 20 for the CPU
  std::int64_t copy_mib = 2048;
  bool limits = false, create = false, by_queues = false;
  std::vector<int> devices;
  std::string jsonl, csv, compare, tuning, floor, trace_file;
  std::shared_ptr<const Trace> trace;  // read from trace_file
};

std::string joined(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

template <std::size_t kCount>
int index_of(const char* axis, const std::string& name, const std::string_view (&names)[kCount]) {
  for (std::size_t i = 0; i < kCount; ++i)
    if (names[i] == name) return static_cast<int>(i);
  throw BadInput(std::string("--") + axis + ": there is no `" + name + "`; there are " +
                 joined(std::vector<std::string>(std::begin(names), std::end(names))));
}

constexpr const char* kTrace = "trace";

oracle::Routing routing_of(const std::string& name) {
  if (const auto routing = oracle::routing_named(name)) return *routing;
  std::vector<std::string> names{kTrace};
  for (const oracle::Routing routing : oracle::kRoutings) names.emplace_back(oracle::name_of(routing));
  throw BadInput("--routing: there is no `" + name + "`; there are " + joined(names));
}

/// Calls then(copy) with every value of an axis set in a copy of `problem`.
template <class Values, class Set, class Then>
void along(const Values& values, const Problem& problem, Set set, Then then) {
  for (const auto& value : values) {
    Problem copy = problem;
    set(copy, value);
    then(copy);
  }
}

constexpr std::string_view kNoYes[] = {"no", "yes"};

/// Moved to the front, if it is there: over its times the others' count.
std::vector<std::string> plain_first(std::vector<std::string> names, std::string_view plain) {
  std::stable_partition(names.begin(), names.end(), [&](const std::string& name) { return name == plain; });
  return names;
}

/// The product of all axes that make a problem, the last one fastest.
std::vector<Problem> problems_of(const Options& o) {
  std::vector<Problem> all{Problem{}};
  const auto extend = [&](const auto& values, auto set) {
    std::vector<Problem> more;
    for (const Problem& p : all) along(values, p, set, [&](const Problem& q) { more.push_back(q); });
    all = std::move(more);
  };
  extend(o.ranks, [](Problem& p, int v) { p.shape.num_ranks = v; });
  extend(o.hidden, [](Problem& p, int v) { p.shape.hidden = v; });
  extend(o.experts, [](Problem& p, int v) { p.shape.num_experts = v; });
  extend(o.topk, [](Problem& p, int v) { p.shape.top_k = v; });
  extend(o.routing, [&](Problem& p, const std::string& v) {
    if (v == kTrace)
      p.trace = o.trace;
    else
      p.routing = routing_of(v);
  });
  extend(o.dtype, [](Problem& p, const std::string& v) {
    p.shape.dispatch_dtype = p.shape.combine_dtype = static_cast<Dtype>(index_of("dtype", v, kDtypeNames));
  });
  const auto combine_dtypes = o.combine_dtype.empty() ? std::vector<std::string>{""} : o.combine_dtype;
  extend(combine_dtypes, [](Problem& p, const std::string& v) {
    if (!v.empty()) p.shape.combine_dtype = static_cast<Dtype>(index_of("combine-dtype", v, kDtypeNames));
  });
  extend(o.scale_bytes, [](Problem& p, int v) { p.shape.scale_bytes = v; });
  extend(plain_first(o.layout, name_of(Layout::token_major)), [](Problem& p, const std::string& v) {
    p.shape.layout = static_cast<Layout>(index_of("layout", v, kLayoutNames));
  });
  extend(plain_first(o.combine_topk_weights, "no"),
         [](Problem& p, const std::string& v) { p.second_result = index_of("combine-topk-weights", v, kNoYes) == 1; });
  extend(o.path, [](Problem& p, const std::string& v) { p.path = static_cast<Path>(index_of("path", v, kPathNames)); });
  extend(o.combine_quant, [](Problem& p, const std::string& v) {
    p.shape.combine_quant = static_cast<CombineQuant>(index_of("combine_quant", v, kCombineQuantNames));
  });
  extend(o.tokens, [](Problem& p, int v) {
    p.shape.max_tokens_per_rank = v;
    if (p.trace) follow_trace(p, p.trace, v);
  });
  return all;
}

std::vector<CallOptions> geometries_of(const Options& o) {
  std::vector<CallOptions> all;
  for (const int num_sms : o.num_sms)
    for (const int num_blocks : o.num_blocks)
      for (const int num_warps : o.num_warps)
        for (const int splits_per_row : o.splits_per_row)
          all.push_back({nullptr, num_sms, num_blocks, num_warps, splits_per_row});
  return all;
}

std::vector<Run> runs_of(const Options& o, Mode usual_mode) {
  std::vector<Run> runs;
  const int repeat = o.repeat ? o.repeat : usual_mode == Mode::graph ? 200 : 20;
  const auto modes = o.mode.empty() ? std::vector<std::string>{std::string(kModeNames[int(usual_mode)])} : o.mode;
  for (const std::string& op : o.op)
    for (const std::string& mode : modes)
      for (const CallOptions& geometry : geometries_of(o))
        runs.push_back({static_cast<Op>(index_of("op", op, kOpNames)),
                        static_cast<Mode>(index_of("mode", mode, kModeNames)), geometry, repeat, o.warm_up});
  return runs;
}

Setting setting_of(const Measurer& measurer) {
  return {CROSSDOCK_COMMIT, measurer.host(), measurer.driver(), now(), measurer.limit_is_of_link()};
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
    if (num_ranks < 1 || num_ranks > kMaxRanks)
      throw BadInput("--ranks: " + std::to_string(num_ranks) + "; must be 1 to " + std::to_string(kMaxRanks));
    const std::vector<Limit> limits = measurer.limits(num_ranks);
    if (o.ranks.size() > 1) std::printf("# ranks %d\n", num_ranks);
    for (const Limit& limit : limits) print_limit(limit);
    if (!o.jsonl.empty()) append_json_lines(o.jsonl, lines_of(limits, setting_of(measurer)));
  }
}

/// Throws for whatever makes a bench fail: a wrong result, a regression, or nothing that was timed.
void judge(const Options& o, double signal_us, const std::vector<Record>& all) {
  for (const Record& record : all)
    if (!record.wrong.empty()) throw Failed("bench: a result differs from the oracle's: " + record.wrong);
  if (std::none_of(all.begin(), all.end(), [](const Record& r) { return r.refused.empty(); }))
    throw BadInput("bench: every case was refused; the first: " + all.front().refused);
  if (const int misses = o.floor.empty() ? 0 : compare_with_floor(signal_us, all); misses && o.floor == "fail")
    throw Failed("bench: " + std::to_string(misses) + " lines miss the floor");
  if (!o.compare.empty() && compare_with_baseline(o.compare, all)) throw Failed("bench: slower than " + o.compare);
}

/// Times of making what calls need. The machine is opened last: who has spoken to a driver cannot fork.
void bench_creation(const Options& o) {
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
  print_creation(setting, lines);
  if (!o.jsonl.empty()) append_json_lines(o.jsonl, lines);
  if (!o.csv.empty()) write_csv(o.csv, lines);
}

/// Reads the trace, if there is one, and fills axes that were not given. Its ranks, experts and top-k are those of all problems.
void complete(Options& o) {
  if ((std::find(o.routing.begin(), o.routing.end(), kTrace) != o.routing.end()) == o.trace_file.empty())
    throw BadInput("bench: --routing trace and --trace FILE belong together; one of them is missing");
  if (!o.trace_file.empty()) o.trace = std::make_shared<const Trace>(read_trace(o.trace_file));
  const auto fill = [&](const char* flag, std::vector<int>& values, int usual, int recorded) {
    for (const int value : values)
      if (o.trace) require_recorded(flag, value, o.trace_file, recorded);
    if (values.empty()) values = {o.trace ? recorded : usual};
  };
  fill("--ranks", o.ranks, kUsualRanks, o.trace ? o.trace->num_ranks() : 0);
  fill("--experts", o.experts, kUsualExperts, o.trace ? o.trace->num_experts : 0);
  fill("--topk", o.topk, kUsualTopk, o.trace ? o.trace->top_k : 0);
  if (o.tokens.empty())
    o.tokens = {o.trace ? *std::max_element(o.trace->tokens.begin(), o.trace->tokens.end()) : kUsualTokens};
}

void bench(Options& o) {
  complete(o);
  if (!o.tuning.empty()) ::setenv("CROSSDOCK_TUNING_FILE", o.tuning.c_str(), 1);
  if (o.create) return bench_creation(o);
  const std::unique_ptr<Measurer> measurer = make_measurer(o.devices, o.copy_mib << 20, o.by_queues);
  if (o.limits) return bench_limits(o, *measurer);
  const Setting setting = setting_of(*measurer);
  const std::vector<Problem> problems = problems_of(o);
  const std::vector<Run> runs = runs_of(o, measurer->usual_mode());
  std::vector<Record> all;
  PatternRates patterns(*measurer);
  const double signal_us = o.floor.empty() ? 0 : measurer->signal_us(*std::max_element(o.ranks.begin(), o.ranks.end()));
  print_table_head(*measurer, setting);
  for (const Problem& problem : problems) {
    std::vector<Record> records = bench_problem(*measurer, problem, runs);
    for (Record& record : records) {
      record.setting = setting;
      if (!o.floor.empty() && favours_experts(problem)) record.pattern_gbps = patterns.gbps(record.traffic);
      if (!o.floor.empty()) set_floor(record, signal_us);
      set_plain_time(record, all);
      print_table_line(record);
    }
    if (!o.jsonl.empty()) append_json_lines(o.jsonl, lines_of(records));  // what is measured stays, whatever comes next
    std::move(records.begin(), records.end(), std::back_inserter(all));
  }
  if (!o.csv.empty()) write_csv(o.csv, lines_of(all));
  judge(o, signal_us, all);
}

void add_axes(CLI::App& app, Options& o) {
  const auto axis = [&](const char* name, auto& values, const char* help) {
    return app.add_option(name, values, help)->delimiter(',')->capture_default_str();
  };
  app.add_option("--trace", o.trace_file,
                 "Recorded routing for --routing trace; ranks, experts and top-k are its own, and "
                 "of each rank's tokens the first count");
  axis("--ranks", o.ranks, "Ranks; without it 4");
  axis("--tokens", o.tokens, "Tokens of each rank; without it 1024, or those of the trace");
  axis("--hidden", o.hidden, "Elements of a row");
  axis("--experts", o.experts, "Experts of all ranks together; without it 256");
  axis("--topk", o.topk, "Experts of a token; without it 8");
  axis("--dtype", o.dtype, "Type of the rows of dispatch");
  axis("--combine-dtype", o.combine_dtype, "Type of the rows of combine; without it the type of dispatch");
  axis("--scale-bytes", o.scale_bytes, "Bytes that travel with each token of dispatch");
  axis("--layout", o.layout, "Layout of the received rows");
  axis("--combine-topk-weights", o.combine_topk_weights, "Whether combine sums rows of weights too: no, yes");
  axis("--path", o.path, "How expert outputs reach combine");
  axis("--combine-quant", o.combine_quant, "What crosses the link in combine");
  axis("--routing", o.routing, "Where tokens go: a name, or trace");
  axis("--op", o.op,
       "What is timed: dispatch, combine, pair (dispatch, then combine), replay (dispatch along a kept plan)");
  axis("--mode", o.mode, "graph (of 20 calls), graph1, eager; without it what suits the machine");
  axis("--num-sms", o.num_sms, "Most thread blocks of a call; 0, here and below: not chosen by the call");
  axis("--num-blocks", o.num_blocks, "Thread blocks of a call");
  axis("--num-warps", o.num_warps, "Warps of a block");
  axis("--splits-per-row", o.splits_per_row, "Parts of a row that different warps take");
}

void add_bench(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("bench", "Time dispatch and combine; every axis takes a list, by commas");
  add_axes(*verb, *o);
  verb->add_option("--repeat", o->repeat, "Timed repetitions; without it 200 on GPUs, 20 on the CPU")
      ->check(CLI::Range(1, 1000000));
  verb->add_option("--warm-up", o->warm_up, "Repetitions before them")
      ->check(CLI::Range(0, 1000000))
      ->capture_default_str();
  verb->add_option("--copy-mib", o->copy_mib, "MiB that memcpy moves among, for the limit; more than the caches hold")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
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
