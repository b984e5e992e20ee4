// SPDX-License-Identifier: Apache-2.0
// `crossdock profile`: time of dispatch and of combine on each rank, called one by one and inside of a replayed graph; on the
// device, and of the host that enqueues. Calls over three times the mean of their rank are flagged.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "jobs/decode_job.hpp"
#include "machine/times.hpp"
#include "report/call_times.hpp"

namespace crossdock::tools {
namespace {

constexpr int kPairs = 10;  // in the graph
constexpr Op kOps[] = {Op::dispatch, Op::combine};
constexpr Mode kModes[] = {Mode::eager, Mode::graph};

struct Options : DecodeOptions {
  int repeat = 50;
};

struct RankProfile {
  Samples of[2][2];  // [mode][op], as in kModes and kOps
};

/// dispatch and combine in turn, with a mark before, between and behind. In a graph kPairs of them, and the marks are part of it.
void time_calls(DecodeJob& job, BenchRank& bench, Queue& queue, int mode, int repeat, RankProfile& profile) {
  const bool in_graph = kModes[mode] == Mode::graph;
  const int calls = in_graph ? 2 * kPairs : 2;
  std::vector<double> host_us(static_cast<std::size_t>(calls));
  CallOptions options;
  options.stream = queue.handle();
  const auto enqueue = [&] {
    queue.mark(0);
    for (int call = 0; call < calls; ++call) {
      const auto began = SteadyClock::now();
      call % 2 ? bench.finish_combine(options) : bench.start_dispatch(options);
      host_us[call] = us_since(began);
      queue.mark(call + 1);
    }
  };
  if (in_graph) {
    queue.begin_capture();
    enqueue();
    queue.end_capture();
  }
  for (int i = -2; i < (2 * repeat + calls - 1) / calls; ++i) {
    job.barrier();
    const auto began = SteadyClock::now();
    in_graph ? queue.replay() : enqueue();
    if (in_graph) std::fill(host_us.begin(), host_us.end(), us_since(began) / calls);
    queue.synchronize();
    for (int call = 0; call < calls && i >= 0; ++call) {
      profile.of[mode][call % 2].device_us.push_back(queue.us_between(call, call + 1));
      profile.of[mode][call % 2].host_us.push_back(host_us[call]);
    }
  }
}

void write_rank(const Options& o, const Machine& machine, int rank, const RankProfile& profile) {
  nlohmann::ordered_json file = {{"rank", rank},
                                 {"host", machine.host()},
                                 {"driver", machine.driver()},
                                 {"ranks", o.num_ranks},
                                 {"tokens", o.config.max_tokens_per_rank},
                                 {"hidden", o.config.hidden},
                                 {"experts", o.config.num_experts},
                                 {"topk", o.config.top_k}};
  for (int mode = 0; mode < 2; ++mode)
    for (int op = 0; op < 2; ++op)
      file[std::string(kModeNames[int(kModes[mode])])][std::string(kOpNames[int(kOps[op])])] =
          json_of(profile.of[mode][op]);
  const std::string path = fmt::format("{}/rank{}.json", o.out, rank);
  std::ofstream out(path);
  out << file.dump(2) << "\n";
  if (!out) throw BadInput("--out: cannot write {}", path);
}

/// Mean, least and most over ranks of their means, and how many calls were flagged.
void print_table(const std::vector<RankProfile>& profiles) {
  fmt::print("{:<6} {:<9} {:>7} {:>12} {:>12} {:>12} {:>14} {:>9}\n", "mode", "op", "calls", "mean us", "min us",
             "max us", "host mean us", "over 3x");
  for (int mode = 0; mode < 2; ++mode)
    for (int op = 0; op < 2; ++op) {
      std::vector<double> device, host;
      std::size_t flagged = 0;
      for (const RankProfile& profile : profiles) {
        const Samples& s = profile.of[mode][op];
        device.push_back(mean_of(s.device_us));
        host.push_back(mean_of(s.host_us));
        flagged += outliers_of(s.device_us).size();
      }
      const auto [least, most] = std::minmax_element(device.begin(), device.end());
      fmt::print("{:<6} {:<9} {:7} {:12.2f} {:12.2f} {:12.2f} {:14.2f} {:9}\n", kModeNames[int(kModes[mode])],
                 kOpNames[int(kOps[op])], profiles[0].of[mode][op].device_us.size(), mean_of(device), *least, *most,
                 mean_of(host), flagged);
    }
}

void profile(const Options& o) {
  std::error_code error;
  std::filesystem::create_directories(o.out, error);
  if (error) throw BadInput("--out: cannot make the folder {}: {}", o.out, error.message());
  DecodeJob job(o, 0);
  std::vector<RankProfile> profiles(static_cast<std::size_t>(o.num_ranks));
  job.run([&](int rank, BenchRank& bench, Queue& queue) {
    for (int mode = 0; mode < 2; ++mode)
      time_calls(job, bench, queue, mode, o.repeat, profiles[static_cast<std::size_t>(rank)]);
  });
  for (int rank = 0; rank < o.num_ranks; ++rank)
    write_rank(o, job.machine(), rank, profiles[static_cast<std::size_t>(rank)]);
  fmt::print("# {}, {} ranks, {} tokens each; means of ranks: their mean, least and most\n", job.machine().host(),
             o.num_ranks, o.config.max_tokens_per_rank);
  print_table(profiles);
}

void add_profile(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("profile", "Time of each op on each rank, eager and in a graph, on device and host");
  add_decode_flags(*verb, *o);
  add_number(*verb, "--repeat", o->repeat, 1, 100000, "Calls of each op");
  verb->add_option("--out", o->out, "Folder for one JSON file a rank")->required();
  verb->callback([o] { profile(*o); });
}

const Verb kVerb{36, add_profile};

}  // namespace
}  // namespace crossdock::tools
