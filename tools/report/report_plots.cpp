// SPDX-License-Identifier: Apache-2.0
#include "report/report_plots.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <map>
#include <set>

namespace crossdock::tools {
namespace {

std::string figure(double value, const char* unit) {
  char text[64];
  std::snprintf(text, sizeof text, value < 100 ? "%.2f %s" : "%.1f %s", value, unit);
  return text;
}

std::string tokens_text(double tokens) {
  return std::to_string(static_cast<int>(tokens)) + (tokens == 1 ? " token" : " tokens");
}

/// "fp8_e4m3" -> "fp8"
std::string short_type(const std::string& dtype) { return dtype.substr(0, dtype.find('_')); }

std::string path_text(const std::string& path) { return path == "zero_copy" ? "zero-copy" : path; }

/// "4x NVIDIA H200" -> "4xh200", for names of plots.
std::string slug_of(const Section& s) {
  std::string word = s.shape.device.substr(s.shape.device.rfind(' ') + 1), slug = std::to_string(s.shape.ranks) + "x";
  for (const char c : word)
    if (std::isalnum(static_cast<unsigned char>(c))) slug += static_cast<char>(std::tolower(c));
  return slug;
}

/// Lines that plots are about: the plain case, in the mode that most of them have been taken in.
std::vector<Line> plain_lines(const std::vector<Line>& lines) {
  std::vector<Line> plain;
  for (const char* mode : {"graph", "graph1", "eager"}) {
    for (const Line& line : lines)
      if (line.mode == mode && line.layout == "token_major" && line.routing == "random" &&
          line.combine_quant == "none" && line.own_geometry)
        plain.push_back(line);
    if (!plain.empty()) break;
  }
  return plain;
}

/// Newest time of each number of tokens, fewest first.
std::map<int, Line> by_tokens(const std::vector<Line>& lines) {
  std::map<int, Line> newest;
  for (const Line& line : lines) newest[line.tokens] = line;
  return newest;
}

template <class Value>
Series series_of(std::string label, Look look, const std::vector<Line>& lines, const char* unit, Value value) {
  Series series{std::move(label), look, {}};
  for (const auto& [tokens, line] : by_tokens(lines))
    if (const double y = value(line); y > 0)
      series.points.push_back({double(tokens), y, tokens_text(tokens) + ", " + figure(y, unit)});
  return series;
}

/// Everything that a plot says, for those who do not see it.
std::string described(const Plot& plot) {
  std::string text = plot.y.title + " against " + plot.x.title + ".";
  for (const Series& series : plot.series) {
    text += " " + series.label + ":";
    for (std::size_t i = 0; i < series.points.size(); ++i) text += (i ? "; " : " ") + series.points[i].note;
    text += ".";
  }
  return text;
}

void add(Section& section, Plot plot) {
  std::erase_if(plot.series, [](const Series& series) { return series.points.empty(); });
  if (std::none_of(plot.series.begin(), plot.series.end(), [](const Series& s) { return s.look == Look::ours; }))
    return;
  plot.description = described(plot);
  section.plots.push_back(std::move(plot));
}

/// What `lines` have as `member`, in the order in which it appears.
std::vector<std::string> values_of(const std::vector<Line>& lines, std::string Line::*member) {
  std::vector<std::string> values;
  for (const Line& line : lines)
    if (std::find(values.begin(), values.end(), line.*member) == values.end()) values.push_back(line.*member);
  return values;
}

std::vector<Line> only(const std::vector<Line>& lines, std::string Line::*member, const std::string& value) {
  std::vector<Line> some;
  std::copy_if(lines.begin(), lines.end(), std::back_inserter(some),
               [&](const Line& line) { return line.*member == value; });
  return some;
}

bool about(const Peer& peer, const Line& line) {
  const bool same_scales = line.op == "combine" || peer.scale_bytes == line.scale_bytes;
  return peer.shape == line.shape && peer.op == line.op && peer.dtype == line.dtype && same_scales &&
         line.layout == "token_major" && line.routing == "random" && line.combine_quant == "none";
}

/// The path of combine makes no difference to it.
bool is_dispatch(const std::string& op) { return op == "dispatch" || op == "replay"; }

std::string title_of(const std::string& op) {
  if (op == "pair") return "dispatch, then combine";
  return op == "replay" ? "dispatch along a kept plan" : op;
}

void plot_times(Section& section, const std::vector<Line>& plain, const Peers& peers) {
  for (const char* op : {"dispatch", "combine", "pair", "replay"}) {
    const std::vector<Line> of_op = only(plain, &Line::op, op);
    for (const std::string& dtype : values_of(of_op, &Line::dtype)) {
      const std::vector<Line> lines = only(of_op, &Line::dtype, dtype);
      Plot plot{std::string(op) + "-" + short_type(dtype) + "-" + slug_of(section),
                title_of(op) + ", " + short_type(dtype) + ", " + section.host,
                "",
                {"tokens per rank", true},
                {"µs per call", true},
                {}};
      for (const Peer& peer : peers.peers)
        if (about(peer, lines.front())) {
          Series series{peer.name, Look::other, {}};
          for (const auto& [tokens, us] : peer.points)
            series.points.push_back({tokens, us, tokens_text(tokens) + ", " + figure(us, "µs")});
          plot.series.push_back(std::move(series));
        }
      std::vector<std::string> paths = values_of(lines, &Line::path);
      if (is_dispatch(op)) paths.resize(1);  // the path is about combine
      for (const std::string& path : paths)
        plot.series.push_back(series_of(paths.size() > 1 ? "Crossdock, " + path_text(path) : "Crossdock", Look::ours,
                                        only(lines, &Line::path, path), "µs", [](const Line& l) { return l.us; }));
      plot.series.push_back(
          series_of("floor", Look::bound, lines, "µs", [&](const Line& l) { return floor_us(l, peers).value_or(0); }));
      add(section, std::move(plot));
    }
  }
}

/// "dispatch bf16" and the like, for lines of one plot that shows several.
std::string what(const Line& line) {
  return line.op + " " + short_type(line.dtype) +
         (is_dispatch(line.op) || line.path == "staged" ? "" : ", " + path_text(line.path));
}

/// Lines of each operator, type and path, in the order in which they appear.
std::vector<std::vector<Line>> kinds(const std::vector<Line>& lines) {
  std::vector<std::vector<Line>> all;
  for (const Line& line : lines) {
    if (line.op == "pair" || (is_dispatch(line.op) && line.path != lines.front().path)) continue;
    auto same =
        std::find_if(all.begin(), all.end(), [&](const auto& kind) { return what(kind.front()) == what(line); });
    if (same == all.end()) same = all.insert(all.end(), std::vector<Line>());
    same->push_back(line);
  }
  return all;
}

void plot_share(Section& section, const std::vector<Line>& plain) {
  Plot plot{"share-" + slug_of(section),
            "share of the link's limit, " + section.host,
            "",
            {"tokens per rank", true},
            {"% of the limit", false},
            {}};
  for (const std::vector<Line>& kind : kinds(plain))
    plot.series.push_back(series_of(what(kind.front()), Look::ours, kind, "%", [](const Line& l) {
      return l.limit_gbps > 0 ? 100 * l.wire_gbps() / l.limit_gbps : 0;
    }));
  add(section, std::move(plot));
}

/// Where a line stands among numbers of SMs: unrestricted, at the blocks that it took. 0: not known.
int sms_of(const Line& line) { return line.num_sms > 0 ? line.num_sms : line.launched_blocks; }

/// Of the most tokens of which at least two numbers of SMs were tried.
void plot_sms(Section& section, const std::vector<Line>& plain) {
  std::map<int, std::set<int>> tried;
  for (const Line& line : plain)
    if (line.num_sms > 0 && line.wire_bytes > 0) tried[line.tokens].insert(line.num_sms);
  int tokens = 0;
  for (const auto& [of_tokens, sms] : tried)
    if (sms.size() > 1) tokens = of_tokens;
  std::vector<Line> lines;
  double limit = 0;
  for (const Line& line : plain)
    if (sms_of(line) > 0 && line.tokens == tokens) lines.push_back(line), limit = std::max(limit, line.limit_gbps);
  Plot plot{"sms-" + slug_of(section),
            "rate against SMs, " + tokens_text(tokens) + ", " + section.host,
            "",
            {"SMs (num_sms)", true},
            {"GB/s on the wire", false},
            {}};
  Series bound{"limit of the link", Look::bound, {}};
  for (const std::vector<Line>& kind : kinds(lines)) {
    if (std::none_of(kind.begin(), kind.end(), [](const Line& line) { return line.num_sms > 0; })) continue;
    Series series{what(kind.front()), Look::ours, {}};
    std::map<int, Line> by_sms;
    for (const Line& line : kind)
      if (line.num_sms > 0 || !by_sms.contains(sms_of(line))) by_sms[sms_of(line)] = line;
    for (const auto& [sms, line] : by_sms)
      series.points.push_back({double(sms), line.wire_gbps(),
                               std::to_string(sms) + (line.num_sms > 0 ? " SMs, " : " blocks, unrestricted, ") +
                                   figure(line.wire_gbps(), "GB/s")});
    for (const auto& [sms, line] : by_sms) tried[tokens].insert(sms);
    plot.series.push_back(series);
  }
  for (const auto sms : tried[tokens])
    if (limit > 0) bound.points.push_back({double(sms), limit, figure(limit, "GB/s")});
  plot.series.push_back(bound);
  add(section, std::move(plot));
}

}  // namespace

std::optional<double> floor_us(const Line& line, const Peers& peers) {
  for (const Floor& floor : peers.floors)
    if (line.wire_bytes > 0 && floor.device == line.shape.device && floor.ranks == line.shape.ranks)
      return (line.op == "pair" ? 2 : 1) * floor.us + line.wire_bytes / floor.gbps / 1e3;
  return {};
}

const Peer* best_peer(const Line& line, const Peers& peers, double& us) {
  const Peer* best = nullptr;
  for (const Peer& peer : peers.peers)
    for (const auto& [tokens, time] : peer.points)
      if (about(peer, line) && tokens == line.tokens && (!best || time < us)) best = &peer, us = time;
  return best;
}

std::vector<Section> sections_of(const std::vector<Line>& lines, const Peers& peers) {
  std::vector<Section> sections;
  for (const Line& line : lines) {
    auto same = std::find_if(sections.begin(), sections.end(),
                             [&](const Section& s) { return s.host == line.host && s.shape == line.shape; });
    if (same == sections.end()) same = sections.insert(sections.end(), {line.host, line.shape, {}, {}});
    same->lines.push_back(line);
  }
  std::set<std::string> names;
  for (Section& section : sections) {
    const std::vector<Line> plain = plain_lines(section.lines);
    std::vector<Line> own_sms;
    std::copy_if(plain.begin(), plain.end(), std::back_inserter(own_sms),
                 [](const Line& line) { return line.num_sms == 0; });
    plot_times(section, own_sms, peers);
    plot_share(section, own_sms);
    plot_sms(section, plain);
    for (Plot& plot : section.plots) {
      const std::string name = plot.name;
      for (int n = 2; !names.insert(plot.name).second; ++n) plot.name = name + "-" + std::to_string(n);
    }
  }
  return sections;
}

}  // namespace crossdock::tools
