// SPDX-License-Identifier: Apache-2.0
// How long it takes to make a group and an exchange: of processes that share nothing but a name.
#pragma once

#include <vector>

#include "command/failures.hpp"
#include "machine/times.hpp"
#include "problem/problem.hpp"
#include "ranks/ranks.hpp"

namespace crossdock::tools {

/// From the first rank that begins to the last that is done, µs, one per repetition.
struct CreationTimes {
  std::vector<double> group_us, exchange_us;
};

/// Each repetition starts processes of its own, which take some memory of their device first, so that their contexts exist.
/// This process must not have spoken to a driver, for it forks.
inline CreationTimes time_creation(const Problem& problem, BackendKind backend, const std::vector<int>& devices,
                                   int repeat) {
  CreationTimes times;
  const int num_ranks = problem.shape.num_ranks;
  for (int i = 0; i < repeat; ++i) {
    const Meeting meeting(num_ranks, true);
    SharedArray<RankBarrier> barrier(1);
    SharedArray<Span> groups(static_cast<std::size_t>(num_ranks)), exchanges(groups.all().size());
    const auto timed = [&](Span& span, auto make) {
      barrier[0].wait(num_ranks);
      span.begin = SteadyClock::now();
      auto made = make();
      span.end = SteadyClock::now();
      return made;
    };
    const auto body = [&](int rank) {
      const std::shared_ptr<Machine> machine = open_machine(backend, devices);
      machine->use(rank);
      const DeviceBytes context = machine->allocate(1);
      Group group = timed(groups[rank], [&] { return meeting.join(rank, group_options(*machine, rank)); });
      const Exchange exchange = timed(exchanges[rank], [&] { return Exchange(group, config_of(problem)); });
      barrier[0].wait(num_ranks);
      return true;
    };
    Watch watch;
    watch.on_failure = [&] { barrier[0].stop(); };
    for (const Ending& ending : run_as_processes(num_ranks, body, watch))
      if (!ending.why.empty()) throw Failed("making a group and an exchange: {}", ending.why);
    times.group_us.push_back(us_of(groups.all()));
    times.exchange_us.push_back(us_of(exchanges.all()));
  }
  return times;
}

}  // namespace crossdock::tools
