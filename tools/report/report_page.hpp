// SPDX-License-Identifier: Apache-2.0
// The page of `crossdock report`: no script, nothing from elsewhere, light and dark, wide and narrow.
#pragma once

#include "report/report_plots.hpp"

namespace crossdock::tools {

std::string page_of(const std::vector<Section>& sections, const Peers& peers);

}  // namespace crossdock::tools
