// SPDX-License-Identifier: Apache-2.0
// The order saves memory: ranks run first and leave their results; only when they are gone are the expert outputs made
// again for the oracle.
#include "jobs/check_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "machine/rank_memory.hpp"
#include "machine/times.hpp"
#include "problem/verify.hpp"
#include "ranks/ranks.hpp"

namespace crossdock::tools {
namespace {

/// Outputs above this lie in the received rows themselves, if they fit there: a large case then takes half the memory.
constexpr std::int64_t kOwnOutputs = std::int64_t{256} << 20;

/// What a rank leaves behind, in memory that outlives its process.
struct Leavings {
  char why[2048];
  bool done;
};

struct Site {
  const Data& data;
  const CheckOptions& options;
  Pages leavings;                       // Leavings of each rank
  std::vector<Pages> results, weights;  // of combine

  Site(const Data& d, const CheckOptions& o)
      : data(d), options(o), leavings(sizeof(Leavings) * d.answers.size(), true) {
    for (const oracle::RankAnswer& answer :
         d.answers) {  // never null: whether weights are asked for is alike on all ranks
      results.emplace_back(std::max<std::size_t>(answer.num_tokens * d.outputs.row_bytes(), 16), o.processes);
      weights.emplace_back(std::max<std::size_t>(std::size_t(answer.num_tokens) * d.problem.shape.top_k * 4, 16),
                           o.processes);
    }
  }
  Leavings& of(int rank) const { return leavings.as<Leavings>()[rank]; }
};

void leave(Site& site, int rank, const std::string& why) {
  Leavings& mine = site.of(rank);
  if (mine.why[0] == 0) std::snprintf(mine.why, sizeof mine.why, "%s", why.c_str());
}

/// Where the outputs of a rank go, and the input of combine.
std::byte* place_outputs(const Site& site, int rank, const Received& received, Machine& machine, DeviceBytes& own) {
  const Problem& p = site.data.problem;
  if (p.path == Path::zero_copy) return static_cast<std::byte*>(received.combine_buffer().data);
  const std::int64_t bytes = output_bytes(site.data, rank);
  const bool same_rows = row_bytes_of(p.shape.dispatch_dtype, p.shape.hidden) == site.data.outputs.row_bytes();
  if (same_rows && bytes > kOwnOutputs)
    return static_cast<std::byte*>(received.has_experts() ? received.experts().rows : received.tokens().rows);
  if (!own) own = machine.allocate(static_cast<std::size_t>(std::max<std::int64_t>(bytes, 16)));
  return own.get();
}

void run_round(Site& site, int rank, Exchange& exchange, RankMemory& memory, DeviceBytes& own) {
  const Data& data = site.data;
  CallOptions call;
  call.stream = memory.stream();
  call.num_sms = site.options.dispatch_blocks;
  Received received = exchange.dispatch(input_of(data, rank, memory), call);
  if (const std::string why = wrong_dispatch(data, rank, received, memory); !why.empty()) leave(site, rank, why);
  if (data.answers[rank].bad_ids > 0 && exchange.poll().code == StatusCode::usage) exchange.clear_status();
  call.num_sms = site.options.combine_blocks;
  const Pages &rows = site.results[rank], &weights = site.weights[rank];
  const CombineOutput out{memory.for_result(rows.data(), rows.bytes()),
                          memory.for_result(weights.as<float>(), weights.bytes())};
  if (data.problem.path == Path::fused) {
    write_landings(data, rank, received, memory.machine());
    exchange.combine_fused(std::move(received), out, -1, call);
  } else {
    CombineInput in;
    std::byte* outputs = place_outputs(site, rank, received, memory.machine(), own);
    in.rows = outputs;
    in.combine_topk_weights = true;
    put_outputs(data, rank, outputs, memory.machine());
    exchange.combine(std::move(received), in, out, call);
  }
  memory.result(rows.data(), rows.bytes());
  memory.result(weights.data(), weights.bytes());
}

/// One rank from its group to its last round. A failure is left behind and told to the others.
void run_rank(Site& site, int rank, Machine& machine, Group group) {
  try {
    RankMemory memory(machine);
    DeviceBytes own;
    Exchange exchange(group, config_of(site.data.problem));
    for (int i = 0; i < site.options.rounds; ++i) run_round(site, rank, exchange, memory, own);
    const Status status = exchange.poll();
    if (status.code != StatusCode::ok) leave(site, rank, status.text);
    site.of(rank).done = true;
  } catch (const std::exception& error) {
    leave(site, rank, error.what());
    group.abort(error.what());
  }
}

/// A rank on a machine of its own: in a forked process there is no other.
void start_rank(Site& site, int rank, const Meeting& meeting) {
  try {
    const std::shared_ptr<Machine> machine = open_machine(site.options.backend, site.options.devices);
    machine->use(rank);
    GroupOptions options = group_options(*machine, rank);
    options.deadline = site.options.deadline;
    run_rank(site, rank, *machine, meeting.join(rank, options));
  } catch (const std::exception& error) {
    leave(site, rank, error.what());
  }
}

void run_all_ranks(Site& site) {
  const int num_ranks = site.data.problem.shape.num_ranks;
  const Meeting meeting(num_ranks, site.options.processes);
  Watch watch;
  watch.allow(site.options.deadline);
  const auto run = site.options.processes ? run_as_processes : run_as_threads;
  const auto body = [&](int rank) {
    start_rank(site, rank, meeting);
    return true;
  };
  for (const Ending& ending : run(num_ranks, body, watch))
    if (!ending.why.empty()) leave(site, ending.rank, ending.why);
}

std::string first_wrong(const Site& site) {
  const int only = site.options.rank, num_ranks = site.data.problem.shape.num_ranks;
  const int first = std::max(only, 0), end = only < 0 ? num_ranks : only + 1;
  for (int rank = first; rank < end; ++rank)
    if (site.of(rank).why[0]) return site.of(rank).why;
  for (int rank = first; rank < end; ++rank)
    if (!site.of(rank).done) return fmt::format("rank {} did not finish", rank);
  const std::vector<oracle::RankResult> expected = expected_results(site.data);
  for (int rank = first; rank < end; ++rank) {
    std::string why =
        wrong_combine(site.data, rank, expected[rank], site.results[rank].data(), site.weights[rank].as<float>());
    if (!why.empty()) return why;
  }
  return "";
}

}  // namespace

Verdict check_problem(const Problem& problem, const CheckOptions& options) {
  Verdict verdict;
  const Support support = supports(config_of(problem), problem.shape.num_ranks);
  if (!support) {
    verdict.why = "refused: " + support.reason;
    return verdict;
  }
  const Data data(problem);
  Site site(data, options);
  const auto start = SteadyClock::now();
  if (options.rank >= 0)  // the others are elsewhere
    start_rank(site, options.rank, Meeting(problem.shape.num_ranks, options.meeting));
  else
    run_all_ranks(site);
  verdict.run_seconds = us_since(start) / 1e6;
  verdict.rows_received = rows_received(data);
  for (const oracle::RankAnswer& answer : data.answers) verdict.rows_dropped += answer.rows_needed - answer.num_rows;
  verdict.why = first_wrong(site);
  verdict.right = verdict.why.empty();
  return verdict;
}

}  // namespace crossdock::tools
