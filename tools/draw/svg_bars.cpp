// SPDX-License-Identifier: Apache-2.0
#include "draw/svg_bars.hpp"

#include <algorithm>

#include "draw/svg_parts.hpp"

namespace crossdock::tools {
namespace {

/// Sizes in units of the viewBox.
constexpr double kWidth = 760, kLeft = 110, kRight = 744, kTop = 36, kRow = 26, kBar = 18, kAxis = 44, kLegendRow = 20,
                 kSwatch = 12;
constexpr double kLetter = 6.6;  // about as wide as one is; texts that do not fit are left out
constexpr int kColours = 8, kPales = 4;

/// The hues of Okabe and Ito for work, pale grounds with a frame for waits; the text inside of each in ink that it carries.
constexpr const char* kStyle =
    R"(.work0{fill:#8a93a0}.work1{fill:#b8860b}.work2{fill:#0067a8}.work3{fill:#c04a00}.work4{fill:#7d3c98}.work5{fill:#a3195b}.work6{fill:#6b4a2b}.work7{fill:#00785a}
.wait0,.wait1,.wait2,.wait3{stroke:#8b95a3;stroke-width:.7}.wait0{fill:#f1f3f6}.wait1{fill:#e0e5ec}.wait2{fill:#f6efe2}.wait3{fill:#e6f0ea}
.on{fill:#ffffff;font-size:10px}.on-wait{fill:#1d2430;font-size:10px}
@media (prefers-color-scheme:dark){
.work0{fill:#8a93a0}.work1{fill:#e3b341}.work2{fill:#5cb8f0}.work3{fill:#ff9a57}.work4{fill:#d0a2f0}.work5{fill:#f58ab8}.work6{fill:#d8b48c}.work7{fill:#3fce9f}
.wait0,.wait1,.wait2,.wait3{stroke:#6d7887}.wait0{fill:#1e242e}.wait1{fill:#2a323e}.wait2{fill:#322c20}.wait3{fill:#1f2f28}
.on{fill:#14181f}.on-wait{fill:#e8ebf0}}
)";

/// The class of each kind, and which of them are there.
struct Kinds {
  std::vector<std::string> classes;
  std::vector<bool> used;

  explicit Kinds(const Bars& bars) : used(bars.kinds.size(), false) {
    int work = 0, waits = 0;
    for (const SpanKind& kind : bars.kinds)
      classes.push_back(kind.waits ? "wait" + std::to_string(waits++ % kPales)
                                   : "work" + std::to_string(work++ % kColours));
    for (const Bar& bar : bars.rows)
      for (const Span& span : bar.spans) used[static_cast<std::size_t>(span.kind)] = true;
  }
};

double width_of(const std::string& text) { return kLetter * static_cast<double>(text.size()); }

std::string box(double x, double y, double width, double height, const std::string& classes, const std::string& note) {
  return "<rect class=\"" + classes + "\" x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(width) +
         "\" height=\"" + number(height) + "\"><title>" + escaped(note) + "</title></rect>\n";
}

/// The kinds in rows below the axis; gives the height that they take.
double legend(const Bars& bars, const Kinds& kinds, double top, std::string& out) {
  double x = kLeft, y = top;
  for (std::size_t k = 0; k < bars.kinds.size(); ++k) {
    if (!kinds.used[k]) continue;
    const double width = kSwatch + 6 + width_of(bars.kinds[k].name) + 16;
    if (x + width > kRight && x > kLeft) x = kLeft, y += kLegendRow;
    out += box(x, y, kSwatch, kSwatch, kinds.classes[k], bars.kinds[k].name) +
           text_at(x + kSwatch + 6, y + kSwatch - 2, "soft", "start", bars.kinds[k].name);
    x += width;
  }
  return y + kLegendRow - top;
}

std::string row(const Bars& bars, const Kinds& kinds, const Bar& bar, double top, double scale) {
  std::string out = text_at(kLeft - 8, top + kBar - 5, "soft", "end", bar.label);
  for (const Span& span : bar.spans) {
    const SpanKind& kind = bars.kinds[static_cast<std::size_t>(span.kind)];
    const double x = kLeft + span.begin * scale, width = (span.end - span.begin) * scale;
    out +=
        box(x, top, width, kBar, kinds.classes[static_cast<std::size_t>(span.kind)],
            kind.name + ", " + number(span.begin) + " to " + number(span.end) + " " + bars.x_title + ", " + span.note);
    if (width > width_of(kind.name))
      out += text_at(x + width / 2, top + kBar - 5, kind.waits ? "on-wait" : "on", "middle", kind.name,
                     " pointer-events=\"none\"");
  }
  return out;
}

}  // namespace

std::string svg_of(const Bars& bars) {
  const Kinds kinds(bars);
  double end = 0;
  for (const Bar& bar : bars.rows)
    for (const Span& span : bar.spans) end = std::max(end, span.end);
  if (end <= 0) end = 1;
  const double scale = (kRight - kLeft) / end, bottom = kTop + kRow * static_cast<double>(bars.rows.size());
  std::string body;
  for (const double tick : linear_ticks(end)) {
    if (tick > end) continue;
    const double x = kLeft + tick * scale;
    body += line_at(x, kTop, x, bottom) + text_at(x, bottom + 14, "soft", "middle", tick_text(tick));
  }
  body += text_at(kLeft - 8, bottom + 14, "soft", "end", bars.x_title);
  for (std::size_t r = 0; r < bars.rows.size(); ++r)
    body += row(bars, kinds, bars.rows[r], kTop + kRow * static_cast<double>(r) + (kRow - kBar) / 2, scale);
  const double height = bottom + kAxis + legend(bars, kinds, bottom + kAxis - kSwatch, body);
  return svg_head(bars.name, bars.title, bars.description, kWidth, height, kStyle) + body + "</svg>\n";
}

}  // namespace crossdock::tools
