// SPDX-License-Identifier: Apache-2.0
// Which plots lines make: time against tokens, share of the limit, rate against SMs; one section a host and shape.
#pragma once

#include <optional>

#include "draw/svg_plot.hpp"
#include "report/report_lines.hpp"

namespace crossdock::tools {

struct Section {
  std::string host;
  Shape shape;
  std::vector<Line> lines;
  std::vector<Plot> plots;
};

std::vector<Section> sections_of(const std::vector<Line>& lines, const Peers& peers);

/// What no call of these bytes can beat; nothing where the bytes or the floor of the device are not known.
std::optional<double> floor_us(const Line& line, const Peers& peers);
/// The least time of others for the same call with as many tokens, null if none is known.
const Peer* best_peer(const Line& line, const Peers& peers, double& us);

}  // namespace crossdock::tools
