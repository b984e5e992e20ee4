// SPDX-License-Identifier: Apache-2.0
#include "report/call_times.hpp"

#include <algorithm>
#include <numeric>

namespace crossdock::tools {
namespace {

constexpr double kOutlier = 3.0;  // times the mean

}  // namespace

double mean_of(const std::vector<double>& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::vector<std::size_t> outliers_of(const std::vector<double>& us) {
  const double mean = mean_of(us);
  std::vector<std::size_t> slow;
  for (std::size_t i = 0; i < us.size(); ++i)
    if (us[i] > kOutlier * mean) slow.push_back(i);
  return slow;
}

nlohmann::ordered_json json_of(const Samples& s) {
  nlohmann::ordered_json flagged = nlohmann::ordered_json::array();
  for (const std::size_t i : outliers_of(s.device_us)) flagged.push_back({{"call", i}, {"us", s.device_us[i]}});
  return {{"calls", s.device_us.size()},
          {"device_mean_us", mean_of(s.device_us)},
          {"device_total_us", std::accumulate(s.device_us.begin(), s.device_us.end(), 0.0)},
          {"device_min_us", s.device_us.empty() ? 0 : *std::min_element(s.device_us.begin(), s.device_us.end())},
          {"device_max_us", s.device_us.empty() ? 0 : *std::max_element(s.device_us.begin(), s.device_us.end())},
          {"host_mean_us", mean_of(s.host_us)},
          {"host_total_us", std::accumulate(s.host_us.begin(), s.host_us.end(), 0.0)},
          {"over_3x_mean", flagged}};
}

}  // namespace crossdock::tools
