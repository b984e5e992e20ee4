// SPDX-License-Identifier: Apache-2.0
// What pictures of all kinds are made of: text, lines, ticks, and the head with the colours of ground and ink, light and dark.
#pragma once

#include <string>
#include <vector>

namespace crossdock::tools {

/// Text as HTML and SVG want it.
std::string escaped(const std::string& text);

/// A length in units of the viewBox.
std::string number(double value);
/// A value beside a tick.
std::string tick_text(double value);
/// From 0 to `most`, in steps of 1, 2 or 5.
std::vector<double> linear_ticks(double most);

std::string text_at(double x, double y, const char* classes, const char* anchor, const std::string& text,
                    const char* more = "");
/// A line of the grid.
std::string line_at(double x1, double y1, double x2, double y2);

/// `<svg>` with its title, description and styles, the ground and the title as text. `name` is unique on a page.
std::string svg_head(const std::string& name, const std::string& title, const std::string& description, double width,
                     double height, const char* more_style);

}  // namespace crossdock::tools
