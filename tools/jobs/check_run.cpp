// SPDX-License-Identifier: Apache-2.0
// The order saves memory: ranks run first and leave their results; only when they are gone are the expert outputs made
// again for the oracle.
#include "jobs/check_run.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>

#include "jobs/bench_rank.hpp"
#include "machine/pages.hpp"
#include "problem/verify.hpp"
#include "ranks/rank_threads.hpp"

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
void start_rank(Site& site, int rank, const std::function<Group(const GroupOptions&)>& join) {
  const std::shared_ptr<Machine> machine = open_machine(site.options.backend, site.options.devices);
  machine->use(rank);
  GroupOptions group = group_options(*machine, rank);
  group.deadline = site.options.deadline;
  run_rank(site, rank, *machine, join(group));
}

void run_threads(Site& site) {
  const int num_ranks = site.data.problem.shape.num_ranks;
  const ThreadTeam team(num_ranks);
  RankThreads(num_ranks).run([&](int rank) {
    try {
      start_rank(site, rank, [&](const GroupOptions& options) { return Group::join(team, rank, options); });
    } catch (const std::exception& error) {
      leave(site, rank, error.what());
    }
  });
}

[[noreturn]] void be_process(Site& site, int rank, const std::string& name) {
  try {
    start_rank(site, rank, [&](const GroupOptions& options) {
      return Group::rendezvous(name, rank, site.data.problem.shape.num_ranks, options);
    });
  } catch (const std::exception& error) {
    leave(site, rank, error.what());
  }
  ::_exit(0);
}

void run_processes(Site& site) {
  std::random_device random;
  const std::string name = "check-" + std::to_string(random()) + "-" + std::to_string(random());
  std::vector<pid_t> children;
  for (int rank = 0; rank < site.data.problem.shape.num_ranks; ++rank) {
    const pid_t child = ::fork();
    if (child == 0) be_process(site, rank, name);
    if (child < 0) throw std::runtime_error("fork of rank " + std::to_string(rank) + " failed");
    children.push_back(child);
  }
  for (std::size_t rank = 0; rank < children.size(); ++rank) {
    int status = 0;
    ::waitpid(children[rank], &status, 0);
    if (WIFSIGNALED(status))
      leave(site, static_cast<int>(rank), "the process was ended by signal " + std::to_string(WTERMSIG(status)));
  }
}

/// One rank here, the others elsewhere.
void run_one(Site& site, int rank, const std::string& meeting) {
  try {
    start_rank(site, rank, [&](const GroupOptions& options) {
      return Group::rendezvous(meeting, rank, site.data.problem.shape.num_ranks, options);
    });
  } catch (const std::exception& error) {
    leave(site, rank, error.what());
  }
}

std::string first_wrong(const Site& site) {
  const int only = site.options.rank, num_ranks = site.data.problem.shape.num_ranks;
  const int first = std::max(only, 0), end = only < 0 ? num_ranks : only + 1;
  for (int rank = first; rank < end; ++rank)
    if (site.of(rank).why[0]) return site.of(rank).why;
  for (int rank = first; rank < end; ++rank)
    if (!site.of(rank).done) return "rank " + std::to_string(rank) + " did not finish";
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
  const auto start = std::chrono::steady_clock::now();
  if (options.rank >= 0)
    run_one(site, options.rank, options.meeting);
  else
    options.processes ? run_processes(site) : run_threads(site);
  verdict.run_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  verdict.rows_received = rows_received(data);
  for (const oracle::RankAnswer& answer : data.answers) verdict.rows_dropped += answer.rows_needed - answer.num_rows;
  verdict.why = first_wrong(site);
  verdict.right = verdict.why.empty();
  return verdict;
}

}  // namespace crossdock::tools
