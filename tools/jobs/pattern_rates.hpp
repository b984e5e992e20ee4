// SPDX-License-Identifier: Apache-2.0
// Rates of bare copies in the pattern of a call, each measured once in a run.
#pragma once

#include <map>
#include <utility>

#include "jobs/measure.hpp"

namespace crossdock::tools {

class PatternRates {
 public:
  explicit PatternRates(Measurer& measurer) : measurer_(measurer) {}

  /// Of copies in one pattern after the other: the busiest bytes of each, over the time of all. 0: one is not measured.
  double gbps(const std::vector<Traffic>& patterns) {
    double bytes = 0, ns = 0;  // 1 GB/s is a byte per ns
    for (const Traffic& pattern : patterns) {
      const double rate = rate_of(pattern);
      if (rate <= 0) return 0;
      bytes += static_cast<double>(pattern.busiest());
      ns += static_cast<double>(pattern.busiest()) / rate;
    }
    return ns > 0 ? bytes / ns : 0;
  }

 private:
  double rate_of(const Traffic& pattern) {
    const auto [known, is_new] = known_.try_emplace(pattern.amounts());
    if (is_new) known->second = measurer_.pattern_gbps(pattern);
    return known->second;
  }

  Measurer& measurer_;
  std::map<std::vector<std::int64_t>, double> known_;
};

}  // namespace crossdock::tools
