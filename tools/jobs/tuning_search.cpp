// SPDX-License-Identifier: Apache-2.0
#include "jobs/tuning_search.hpp"

#include <algorithm>

namespace crossdock::tools {
namespace {

constexpr int kBlocks[] = {1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256}, kWarps[] = {1, 2, 4, 8, 16},
              kSplits[] = {1, 2, 3, 4, 7, 8, 14, 16, 28, 32};
/// Nothing below a sixteenth of the rule's value is tried: it would be slow, and slow to try.
constexpr int kFarBelow = 16;
/// Second measurements of the rule and of the best, in turns.
constexpr int kDuels = 3;

/// Values of one member, and what became of it.
struct Axis {
  int CallOptions::*asked;
  int LaunchInfo::*launched;
  std::vector<int> values;
};

std::vector<Axis> axes() {
  return {{&CallOptions::num_blocks, &LaunchInfo::num_blocks, {std::begin(kBlocks), std::end(kBlocks)}},
          {&CallOptions::num_warps, &LaunchInfo::num_warps, {std::begin(kWarps), std::end(kWarps)}},
          {&CallOptions::splits_per_row, &LaunchInfo::splits_per_row, {std::begin(kSplits), std::end(kSplits)}}};
}

/// The least of a few measurements each, taken in turns so that both see the same neighbours.
void duel(const Time& time, int repeat, Trial& a, Trial& b) {
  a.us = b.us = 1e30;
  for (int i = 0; i < kDuels; ++i) {
    a.us = std::min(a.us, time(a.asked, repeat).us);
    b.us = std::min(b.us, time(b.asked, repeat).us);
  }
}

}  // namespace

Found search(const Time& time, int repeat, const std::function<bool()>& out_of_time) {
  Found found;
  found.rule = found.best = time({}, repeat);
  found.tried = 1;
  for (const Axis& axis : axes()) {
    int before = 0;
    for (const int value : axis.values) {
      if (out_of_time()) break;
      if (value * kFarBelow < found.rule.launch.*axis.launched) continue;
      CallOptions asked = found.best.asked;
      asked.*axis.asked = value;
      const Trial trial = time(asked, repeat);
      ++found.tried;
      if (trial.launch.*axis.launched <= before) break;  // no more fit
      before = trial.launch.*axis.launched;
      if (trial.us < found.best.us) found.best = trial;
    }
  }
  if (found.best.us < found.rule.us) duel(time, repeat, found.rule, found.best);
  if (found.gain() < kLeastGain) found.best = found.rule;
  return found;
}

}  // namespace crossdock::tools
