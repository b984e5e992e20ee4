// SPDX-License-Identifier: Apache-2.0
#include "jobs/creation.hpp"

#include <stdexcept>

#include "machine/times.hpp"
#include "ranks/ranks.hpp"
#include "ranks/shared.hpp"

namespace crossdock::tools {
namespace {

/// What the processes of one repetition share.
struct Round {
  explicit Round(int num_ranks) : meeting(num_ranks, true), barrier(1), groups(num_ranks), exchanges(num_ranks) {}
  void wait() { barrier[0].wait(static_cast<int>(groups.all().size())); }

  Meeting meeting;
  SharedArray<RankBarrier> barrier;
  SharedArray<Span> groups, exchanges;
};

void make_all(Round& round, int rank, const Config& config, BackendKind backend, const std::vector<int>& devices) {
  const std::shared_ptr<Machine> machine = open_machine(backend, devices);
  machine->use(rank);
  const DeviceBytes context = machine->allocate(1);
  round.wait();
  round.groups[rank].begin = SteadyClock::now();
  Group group = round.meeting.join(rank, group_options(*machine, rank));
  round.groups[rank].end = SteadyClock::now();
  round.wait();
  round.exchanges[rank].begin = SteadyClock::now();
  const Exchange exchange(group, config);
  round.exchanges[rank].end = SteadyClock::now();
  round.wait();
}

}  // namespace

CreationTimes time_creation(const Problem& problem, BackendKind backend, const std::vector<int>& devices, int repeat) {
  CreationTimes times;
  const Config config = config_of(problem);
  for (int i = 0; i < repeat; ++i) {
    Round round(problem.shape.num_ranks);
    Watch watch;
    watch.on_failure = [&] { round.barrier[0].stop(); };
    const auto body = [&](int rank) {
      make_all(round, rank, config, backend, devices);
      return true;
    };
    for (const Ending& ending : run_as_processes(problem.shape.num_ranks, body, watch))
      if (!ending.why.empty()) throw std::runtime_error("making a group and an exchange: " + ending.why);
    times.group_us.push_back(us_of(round.groups.all()));
    times.exchange_us.push_back(us_of(round.exchanges.all()));
  }
  return times;
}

}  // namespace crossdock::tools
