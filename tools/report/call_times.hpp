// SPDX-License-Identifier: Apache-2.0
// What `crossdock profile` says of the calls of one op on one rank.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <vector>

namespace crossdock::tools {

/// µs of every call of one op in one mode on one rank.
struct Samples {
  std::vector<double> device_us, host_us;  // the host's, inside of a graph: share of the launch
};

double mean_of(const std::vector<double>& values);

/// Which calls took more than three times the mean of all.
std::vector<std::size_t> outliers_of(const std::vector<double>& us);

nlohmann::ordered_json json_of(const Samples& samples);

}  // namespace crossdock::tools
