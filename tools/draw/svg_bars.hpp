// SPDX-License-Identifier: Apache-2.0
// Bars of coloured spans against time as SVG, a row for each of what does something, with a legend. Knows nothing of what it
// shows.
#pragma once

#include <string>
#include <vector>

namespace crossdock::tools {

struct Span {
  double begin, end;
  int kind;          // index of Bars::kinds
  std::string note;  // shown where the pointer rests, behind the kind and the time
};

/// One row.
struct Bar {
  std::string label;
  std::vector<Span> spans;
};

/// What spans are of: in a colour, or pale where nothing is done but waited.
struct SpanKind {
  std::string name;
  bool waits = false;
};

struct Bars {
  std::string name;  // of letters, digits and -; unique on a page
  std::string title, description, x_title;
  std::vector<SpanKind> kinds;
  std::vector<Bar> rows;
};

/// `<svg>` with its own style for light and dark. Only kinds that have a span are in the legend.
std::string svg_of(const Bars& bars);

}  // namespace crossdock::tools
