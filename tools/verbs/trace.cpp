// SPDX-License-Identifier: Apache-2.0
// `crossdock trace`: time stamps from inside of the kernels of a replayed graph, as a timeline for Perfetto.
#include <fstream>
#include <memory>

#include "command/verbs.hpp"
#include "jobs/decode_job.hpp"
#include "report/timeline.hpp"

namespace crossdock::tools {
namespace {

constexpr int kPairs = 4, kWarmUp = 3;  // pairs in the graph; replays before the one that is shown
constexpr int kStamps = 1 << 17;        // every block of every operation of two replays

struct Options : DecodeOptions {
  TimelineOptions timeline;
};
using Events = std::vector<std::vector<TraceEvent>>;  // by rank

/// One graph, replayed; what its last replay has stamped.
Events record(DecodeJob& job) {
  Events events(static_cast<std::size_t>(job.num_ranks()));
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

/// A row per edge and rank, a column per peer.
void print_waits(const Events& events) {
  fmt::print("{:<28}", "mean wait in us for rank");
  for (std::size_t peer = 0; peer < events.size(); ++peer) fmt::print(" {:9}", peer);
  for (const PeerWait& wait : peer_waits(events)) {
    if (wait.peer == 0) fmt::print("\n{:<18} by rank {}", name_of(wait.phase), wait.rank);
    fmt::print(" {:9.2f}", wait.mean_us);
  }
  fmt::print("\n");
}

void trace(const Options& o) {
  std::ofstream out(o.out);  // opened before the work so that a wrong name costs nothing
  if (!out) throw BadInput("--out: cannot write {}", o.out);
  DecodeJob job(o, kStamps);
  TimelineOptions timeline = o.timeline;
  timeline.align = !job.machine().is_host();
  const Events events = record(job);
  std::size_t stamps = 0;
  for (const auto& of_rank : events) stamps += of_rank.size();
  if (stamps == 0) throw Failed("trace: no operation was stamped from begin to end by all ranks");
  fmt::print("{} time stamps of {} ranks on {}\n", stamps, job.num_ranks(), job.machine().host());
  print_waits(events);
  out << timeline_of(events, timeline).dump() << "\n";
  out.close();
  if (!out) throw Failed("trace: writing {} failed", o.out);
  fmt::print("{}: open it in ui.perfetto.dev\n", o.out);
}

void add_trace(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("trace", "Phases inside of dispatch and combine, as a timeline for Perfetto");
  add_decode_flags(*verb, *o);
  verb->add_option("--out", o->out, "Timeline to write, for Perfetto")->required();
  verb->add_flag("--blocks", o->timeline.blocks, "A track for each thread block too");
  verb->callback([o] { trace(*o); });
}

const Verb kVerb{33, add_trace};

}  // namespace
}  // namespace crossdock::tools
