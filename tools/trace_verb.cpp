// SPDX-License-Identifier: Apache-2.0
// `crossdock trace`: time stamps from inside of the kernels of a replayed graph, as a timeline for Perfetto.
#include <cstdio>
#include <fstream>
#include <memory>

#include "decode_job.hpp"
#include "timeline.hpp"
#include "verbs.hpp"

namespace crossdock::tools {
namespace {

constexpr int kPairs = 4, kWarmUp = 3;  // pairs in the graph; replays before the one that is shown
constexpr int kStamps = 1 << 17;        // every block of every operation of two replays

struct Options : DecodeOptions {
  TimelineOptions timeline;
};

/// One graph, replayed; what its last replay has stamped.
std::vector<std::vector<TraceEvent>> record(DecodeJob& job) {
  std::vector<std::vector<TraceEvent>> events(static_cast<std::size_t>(job.num_ranks()));
  job.run([&](int rank, BenchRank& bench, Queue& queue) {
    CallOptions options;
    options.stream = queue.handle();
    queue.begin_capture();
    for (int i = 0; i < kPairs; ++i) bench.call(Op::pair, options);
    queue.end_capture();
    job.barrier();
    for (int i = 0; i <= kWarmUp; ++i) queue.replay();
    queue.synchronize();
    events[static_cast<std::size_t>(rank)] = bench.trace();
  });
  keep_last_operations(events, 2 * kPairs);
  return events;
}

void trace(const Options& o) {
  std::ofstream file(o.out);
  if (!file) throw BadInput("--out: cannot write " + o.out);
  DecodeJob job(o, kStamps);
  TimelineOptions timeline = o.timeline;
  timeline.align = !job.machine().is_host();
  const std::vector<std::vector<TraceEvent>> events = record(job);
  std::size_t stamps = 0;
  for (const auto& of_rank : events) stamps += of_rank.size();
  if (stamps == 0) throw Failed("trace: no operation was stamped from begin to end by all ranks");
  file << timeline_of(events, timeline).dump() << "\n";
  file.close();
  if (!file) throw Failed("trace: writing " + o.out + " failed");
  std::printf("%zu time stamps of %d ranks on %s: %s (open it in ui.perfetto.dev)\n", stamps, job.num_ranks(),
              job.machine().host().c_str(), o.out.c_str());
}

void add_trace(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("trace", "Phases inside of dispatch and combine, as a timeline for Perfetto");
  add_decode_flags(*verb, *o);
  verb->add_option("--out", o->out, "File to write")->required();
  verb->add_flag("--blocks", o->timeline.blocks, "A track for each thread block too");
  verb->callback([o] { trace(*o); });
}

const Verb kVerb{33, add_trace};

}  // namespace
}  // namespace crossdock::tools
