// SPDX-License-Identifier: Apache-2.0
// Time stamps of all ranks as a timeline for Perfetto (ui.perfetto.dev) and chrome://tracing. docs/traces.md has the format.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "crossdock/exchange.hpp"

namespace crossdock::tools {

struct TimelineOptions {
  bool align = false;   // clocks of ranks differ: shift them so that counts of all ranks are known at one time
  bool blocks = false;  // a track for each block, too
};

/// `events[r]` are those of rank r, oldest first, of the same operations on every rank.
nlohmann::ordered_json timeline_of(const std::vector<std::vector<TraceEvent>>& events, const TimelineOptions& options);

/// How long rank `rank` waits for the signal of `peer`, from the beginning of the phase on: the mean over operations and blocks.
struct PeerWait {
  Phase phase;
  int rank, peer;
  double mean_us;
};
/// By phase, rank and peer.
std::vector<PeerWait> peer_waits(const std::vector<std::vector<TraceEvent>>& events);

/// Only the newest `count` operations that all ranks have from begin to end.
void keep_last_operations(std::vector<std::vector<TraceEvent>>& events, int count);

}  // namespace crossdock::tools
