// SPDX-License-Identifier: Apache-2.0
// A plot as SVG: log or linear axes, lines with direct labels at their ends, a title and a description for those who do not
// see it, and colours for light and dark that the colour-blind tell apart. Knows nothing of what it shows.
#pragma once

#include <string>
#include <vector>

namespace crossdock::tools {

struct Point {
  double x, y;
  std::string note;  // shown where the pointer rests
};

/// How a line is drawn: in a colour, in grey with a mark of its own, or dashed without marks.
enum class Look { ours, other, bound };

struct Series {
  std::string label;
  Look look = Look::ours;
  std::vector<Point> points;
};

struct Axis {
  std::string title;
  bool log = false;
};

struct Plot {
  std::string name;  // of letters, digits and -; unique on a page
  std::string title, description;
  Axis x, y;
  std::vector<Series> series;
};

/// `<svg>` with its own style, so that it stands alone as well as on a page.
std::string svg_of(const Plot& plot);

}  // namespace crossdock::tools
