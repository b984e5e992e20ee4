// SPDX-License-Identifier: Apache-2.0
// The search of `crossdock tune`: one member of the geometry after another, on one open bench.
#pragma once

#include <functional>

#include "jobs/measure.hpp"

namespace crossdock::tools {

struct Trial {
  CallOptions asked;
  LaunchInfo launch;  // what it became
  double us = 0;
};

struct Found {
  Trial rule, best;  // equal if nothing is faster than the rule
  int tried = 0;
  /// How much less time than the rule takes, 0 to 1.
  double gain() const { return rule.us > 0 ? 1 - best.us / rule.us : 0; }
};

/// A candidate must be so much faster, in a second measurement against the rule too: less is noise.
inline constexpr double kLeastGain = 0.02;

/// Times `asked`, as often as `repeat` says.
using Time = std::function<Trial(const CallOptions& asked, int repeat)>;

/// `out_of_time` is asked before each trial; then the best so far is compared with the rule and that is it.
Found search(const Time& time, int repeat, const std::function<bool()>& out_of_time);

}  // namespace crossdock::tools
