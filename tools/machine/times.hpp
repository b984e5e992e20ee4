// SPDX-License-Identifier: Apache-2.0
// Times in µs, and what is said of many of them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

namespace crossdock::tools {

using SteadyClock = std::chrono::steady_clock;  // the same in all processes of a host

inline double us_of(SteadyClock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }
inline double us_since(SteadyClock::time_point began) { return us_of(SteadyClock::now() - began); }

/// When something began and ended on one rank.
struct Span {
  SteadyClock::time_point begin, end;
};
/// From the first rank that began to the last that ended.
inline double us_of(std::span<const Span> spans) {
  SteadyClock::time_point begin = spans[0].begin, end = spans[0].end;
  for (const Span& span : spans) begin = std::min(begin, span.begin), end = std::max(end, span.end);
  return us_of(end - begin);
}

/// Of unsorted samples, the value that `share` of them do not exceed; 0 of none.
inline double quantile(std::vector<double> samples, double share) {
  if (samples.empty()) return 0;
  const auto rank = static_cast<std::ptrdiff_t>(std::ceil(share * static_cast<double>(samples.size())));
  const auto place = samples.begin() + std::max<std::ptrdiff_t>(rank - 1, 0);
  std::nth_element(samples.begin(), place, samples.end());
  return *place;
}
inline double median(std::vector<double> samples) { return quantile(std::move(samples), 0.5); }

}  // namespace crossdock::tools
