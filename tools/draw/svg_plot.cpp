// SPDX-License-Identifier: Apache-2.0
#include "draw/svg_plot.hpp"

#include <algorithm>
#include <cmath>

#include "draw/svg_parts.hpp"

namespace crossdock::tools {
namespace {

/// Sizes in units of the viewBox. About as wide as a phone, so that text stays readable there.
constexpr double kWidth = 460, kHeight = 340, kLeft = 50, kRight = 330, kTop = 40, kBottom = 292, kLabelX = 338,
                 kLabelStep = 13.5;
constexpr std::size_t kLabelLetters = 16;
constexpr int kOurColours = 4, kMarks = 4;
/// So many values may be ticks of their own.
constexpr std::size_t kMaxTicks = 8;

/// The hues of Okabe and Ito, lighter on dark ground.
constexpr const char* kStyle =
    R"(.line{fill:none;stroke-width:2}.other{stroke:#7b8594}.mark.other{fill:#ffffff;stroke-width:1.5}.bound{stroke:#1d2430;stroke-dasharray:5 4;stroke-width:1.5}
.ours0{stroke:#0067a8;color:#0067a8}.ours1{stroke:#c04a00;color:#c04a00}.ours2{stroke:#00785a;color:#00785a}.ours3{stroke:#7d3c98;color:#7d3c98}
.mark.ours0,.label.ours0{fill:#0067a8}.mark.ours1,.label.ours1{fill:#c04a00}.mark.ours2,.label.ours2{fill:#00785a}.mark.ours3,.label.ours3{fill:#7d3c98}
.label{stroke:none!important}.label.other{fill:#5a6472}.label.bound{fill:#1d2430}.lead{fill:none;stroke-width:.7;opacity:.6}
@media (prefers-color-scheme:dark){
.other{stroke:#8994a3}.mark.other{fill:#14181f}.bound{stroke:#e8ebf0}
.ours0{stroke:#5cb8f0;color:#5cb8f0}.ours1{stroke:#ff9a57;color:#ff9a57}.ours2{stroke:#3fce9f;color:#3fce9f}.ours3{stroke:#d0a2f0;color:#d0a2f0}
.mark.ours0,.label.ours0{fill:#5cb8f0}.mark.ours1,.label.ours1{fill:#ff9a57}.mark.ours2,.label.ours2{fill:#3fce9f}.mark.ours3,.label.ours3{fill:#d0a2f0}
.label.other{fill:#a3adba}.label.bound{fill:#e8ebf0}}
)";

/// From values to units of the viewBox, and where lines of the grid go.
struct Scale {
  double least, most, from, to;
  bool log;
  std::vector<double> ticks;

  double at(double value) const {
    const double share = log ? std::log(value / least) / std::log(most / least) : (value - least) / (most - least);
    return from + share * (to - from);
  }
};

/// Powers of `base` around the values; for tens also 2 and 5, where there is room.
std::vector<double> log_ticks(double least, double most, double base) {
  std::vector<double> ticks;
  const bool dense = base == 10 && most / least < 2e3;
  for (double power = std::pow(base, std::floor(std::log(least) / std::log(base) + 1e-9)); power <= most * 1.0001;
       power *= base)
    for (const double step : {1.0, 2.0, 5.0})
      if ((step == 1 || dense) && power * step >= least * 0.9999 && power * step <= most * 1.0001)
        ticks.push_back(power * step);
  return ticks;
}

/// Where our points lie, if they are few.
void own_ticks(const Plot& plot, Scale& x) {
  std::vector<double> values;
  for (const Series& series : plot.series)
    for (const Point& point : series.points)
      if (series.look == Look::ours && std::find(values.begin(), values.end(), point.x) == values.end())
        values.push_back(point.x);
  if (values.size() <= kMaxTicks) x.ticks = values;
}

Scale scale_of(const Plot& plot, double Point::*member, bool log, double base, double from, double to) {
  Scale s{1e300, 0, from, to, log, {}};
  for (const Series& series : plot.series)
    for (const Point& point : series.points)
      s.least = std::min(s.least, point.*member), s.most = std::max(s.most, point.*member);
  if (!log) {
    s.least = 0;
    s.most = s.most > 0 ? s.most * 1.05 : 1;
    s.ticks = linear_ticks(s.most);
    return s;
  }
  if (member == &Point::y) s.least /= 1.25, s.most *= 1.25;
  if (s.most <= s.least) s.least /= 2, s.most *= 2;
  s.ticks = log_ticks(s.least, s.most, base);
  if (member == &Point::x) own_ticks(plot, s);
  return s;
}

std::string axes(const Plot& plot, const Scale& x, const Scale& y) {
  std::string out;
  for (const double tick : x.ticks)
    out += line_at(x.at(tick), kTop, x.at(tick), kBottom) +
           text_at(x.at(tick), kBottom + 16, "soft", "middle", tick_text(tick));
  for (const double tick : y.ticks)
    out += line_at(kLeft, y.at(tick), kRight, y.at(tick)) +
           text_at(kLeft - 6, y.at(tick) + 4, "soft", "end", tick_text(tick));
  out += "<rect class=\"frame\" x=\"" + number(kLeft) + "\" y=\"" + number(kTop) + "\" width=\"" +
         number(kRight - kLeft) + "\" height=\"" + number(kBottom - kTop) + "\"/>\n";
  out += text_at((kLeft + kRight) / 2, kBottom + 36, "soft", "middle", plot.x.title);
  return out + text_at(14, (kTop + kBottom) / 2, "soft", "middle", plot.y.title,
                       (" transform=\"rotate(-90 14 " + number((kTop + kBottom) / 2) + ")\"").c_str());
}

/// A circle, square, diamond or triangle.
std::string mark(int shape, double x, double y, const std::string& classes, const std::string& note) {
  const auto path = [&](std::initializer_list<std::pair<double, double>> corners) {
    std::string d = "M";
    for (const auto& [dx, dy] : corners) d += number(x + dx) + " " + number(y + dy) + " ";
    return "<path class=\"" + classes + "\" d=\"" + d + "Z\">";
  };
  const std::string title = "<title>" + escaped(note) + "</title>";
  if (shape == 1) return path({{-3, -3}, {3, -3}, {3, 3}, {-3, 3}}) + title + "</path>\n";
  if (shape == 2) return path({{0, -4}, {4, 0}, {0, 4}, {-4, 0}}) + title + "</path>\n";
  if (shape == 3) return path({{0, -4}, {4, 3}, {-4, 3}}) + title + "</path>\n";
  return "<circle class=\"" + classes + "\" cx=\"" + number(x) + "\" cy=\"" + number(y) + "\" r=\"3.5\">" + title +
         "</circle>\n";
}

/// A label beside the last point of a line, and where it ends up.
struct Label {
  const Series* series;
  std::string classes;
  double x, wanted_y, y;
};

/// A long text in two lines, cut at a blank.
std::vector<std::string> lines_of(const std::string& text) {
  if (text.size() <= kLabelLetters) return {text};
  std::size_t cut = text.rfind(' ', kLabelLetters);
  if (cut == std::string::npos) cut = text.find(' ');
  if (cut == std::string::npos) return {text};
  return {text.substr(0, cut), text.substr(cut + 1)};
}

/// Labels keep their order and get the room they need.
void spread(std::vector<Label>& labels) {
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.wanted_y < b.wanted_y; });
  const auto room = [](const Label& label) { return kLabelStep * lines_of(label.series->label).size() + 2; };
  double free = kTop - 4;
  for (Label& label : labels) {
    label.y = std::max(label.wanted_y - room(label) / 2, free);
    free = label.y + room(label);
  }
  double end = kBottom + 22;
  for (auto label = labels.rbegin(); label != labels.rend(); ++label) {
    label->y = std::min(label->y, end - room(*label));
    end = label->y;
  }
}

std::string drawn(std::vector<Label> labels) {
  spread(labels);
  std::string out;
  for (const Label& label : labels) {
    const std::vector<std::string> lines = lines_of(label.series->label);
    out += "<path class=\"lead " + label.classes + "\" d=\"M" + number(label.x + 5) + " " + number(label.wanted_y) +
           " L" + number(kLabelX - 3) + " " + number(label.y + 7 * lines.size()) + "\"/>\n";
    for (std::size_t i = 0; i < lines.size(); ++i)
      out += text_at(kLabelX, label.y + 11 + kLabelStep * i, ("label strong " + label.classes).c_str(), "start",
                     lines[i], label.series->look == Look::ours ? "" : " style=\"font-weight:400\"");
  }
  return out;
}

std::string lines(const Plot& plot, const Scale& x, const Scale& y) {
  std::string back, front;
  std::vector<Label> labels;
  int ours = 0, others = 0;
  for (const Series& series : plot.series) {
    if (series.points.empty()) continue;
    const bool is_ours = series.look == Look::ours;
    const std::string classes = is_ours                      ? "ours" + std::to_string(ours % kOurColours)
                                : series.look == Look::other ? "other"
                                                             : "bound";
    const int shape = (is_ours ? ours : others) % kMarks;
    std::string& out = is_ours ? front : back;
    out += "<path class=\"line " + classes + "\" d=\"";
    const char* step = "M";
    for (const Point& point : series.points) {
      out += step;
      out += number(x.at(point.x)) + " " + number(y.at(point.y)) + " ";
      step = "L";
    }
    out += "\"/>\n";
    for (const Point& point : series.points)
      if (series.look != Look::bound)
        out += mark(shape, x.at(point.x), y.at(point.y), "mark " + classes, series.label + ": " + point.note);
    ours += is_ours;
    others += series.look == Look::other;
    const Point& last = series.points.back();
    labels.push_back({&series, classes, x.at(last.x), y.at(last.y), 0});
  }
  return back + front + drawn(labels);
}

}  // namespace

std::string svg_of(const Plot& plot) {
  const Scale x = scale_of(plot, &Point::x, plot.x.log, 4, kLeft, kRight);
  const Scale y = scale_of(plot, &Point::y, plot.y.log, 10, kBottom, kTop);
  const std::string head = svg_head(plot.name, plot.title, plot.description, kWidth, kHeight, kStyle);
  return head + axes(plot, x, y) + lines(plot, x, y) + "</svg>\n";
}

}  // namespace crossdock::tools
