// SPDX-License-Identifier: Apache-2.0
// What `crossdock profile` says of the calls of one op on one rank.
#pragma once

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

namespace crossdock::tools {

/// µs of every call of one op in one mode on one rank.
struct Samples {
  std::vector<double> device_us, host_us;  // the host's, inside of a graph: share of the launch
};

inline double sum_of(const std::vector<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }
inline double mean_of(const std::vector<double>& values) {
  return values.empty() ? 0 : sum_of(values) / static_cast<double>(values.size());
}

/// Which calls took more than three times the mean of all.
inline std::vector<std::size_t> outliers_of(const std::vector<double>& us) {
  const double mean = mean_of(us);
  std::vector<std::size_t> slow;
  for (std::size_t i = 0; i < us.size(); ++i)
    if (us[i] > 3 * mean) slow.push_back(i);
  return slow;
}

inline nlohmann::ordered_json json_of(const Samples& s) {
  nlohmann::ordered_json flagged = nlohmann::ordered_json::array();
  for (const std::size_t i : outliers_of(s.device_us)) flagged.push_back({{"call", i}, {"us", s.device_us[i]}});
  const auto [least, most] = std::minmax_element(s.device_us.begin(), s.device_us.end());
  const bool any = !s.device_us.empty();
  return {{"calls", s.device_us.size()},
          {"device_mean_us", mean_of(s.device_us)},
          {"device_total_us", sum_of(s.device_us)},
          {"device_min_us", any ? *least : 0},
          {"device_max_us", any ? *most : 0},
          {"host_mean_us", mean_of(s.host_us)},
          {"host_total_us", sum_of(s.host_us)},
          {"over_3x_mean", flagged}};
}

}  // namespace crossdock::tools
