// SPDX-License-Identifier: Apache-2.0
#include "report/report_page.hpp"

#include <algorithm>
#include <cstdio>
#include <set>
#include <tuple>

#include "draw/svg_parts.hpp"

namespace crossdock::tools {
namespace {

constexpr const char* kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark"><title>Crossdock bench</title>
<style>
:root{--ground:#ffffff;--panel:#f5f6f8;--ink:#1d2430;--soft:#5a6472;--rule:#dfe3e8}
@media (prefers-color-scheme:dark){:root{--ground:#0e1116;--panel:#14181f;--ink:#e8ebf0;--soft:#a3adba;--rule:#2a313c}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1160px;padding:1.25rem;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.6rem;margin:.2em 0}h2{font-size:1.25rem;margin:2.2rem 0 .3rem}h3{font-size:1rem;margin:1.6rem 0 .4rem}
p,dl{color:var(--soft);max-width:75ch;margin:.4rem 0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:0 1rem;font-size:.9rem}dt{color:var(--ink)}dd{margin:0;overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:1rem;margin:1rem 0}
figure{margin:0;border:1px solid var(--rule);border-radius:8px;overflow:hidden;max-width:640px}figure svg{display:block;width:100%;height:auto}
.table{overflow-x:auto;border:1px solid var(--rule);border-radius:8px}
table{border-collapse:collapse;font-size:.85rem;white-space:nowrap;width:100%}
th,td{padding:.3rem .6rem;text-align:left;border-bottom:1px solid var(--rule)}th{background:var(--panel)}
td.n{text-align:right;font-variant-numeric:tabular-nums}tr:last-child td{border-bottom:0}
td.wide{white-space:normal;min-width:10rem}
</style></head><body>
<h1>Crossdock bench</h1>
<p>Times are µs of a call, median, slowest rank, with all costs inside: routing, counts, metadata, completion. Each result was
compared with the oracle bit for bit before its time was written, where the table says so. CombineQuant bytes are what the busiest rank
stores to others. Other libraries' times leave out what their tables name.</p>
)";

std::string number(double value, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

/// An empty text where there is nothing to say.
std::string known(double value, int digits) { return value > 0 ? number(value, digits) : ""; }

std::string cell(const std::string& text, const char* classes = "") {
  return std::string("<td") + (*classes ? std::string(" class=\"") + classes + "\"" : "") + ">" + escaped(text) +
         "</td>";
}

std::string head(std::initializer_list<const char*> columns) {
  std::string out = "<div class=\"table\"><table><thead><tr>";
  for (const char* column : columns) out += "<th scope=\"col\">" + std::string(column) + "</th>";
  return out + "</tr></thead><tbody>\n";
}

/// All that lines say as `member`, each once.
std::string all_of(const std::vector<Line>& lines, std::string Line::*member) {
  std::set<std::string> values;
  for (const Line& line : lines) values.insert(line.*member);
  std::string text;
  for (const std::string& value : values) text += (text.empty() ? "" : ", ") + (value.empty() ? "not said" : value);
  return text;
}

std::string fingerprint(const Section& section) {
  std::string out = "<dl>";
  for (const auto& [name, member] : {std::pair("host", &Line::host), std::pair("driver", &Line::driver),
                                     std::pair("date", &Line::date), std::pair("commit", &Line::commit)})
    out += std::string("<dt>") + name + "</dt><dd>" + escaped(all_of(section.lines, member)) + "</dd>";
  return out + "</dl>\n";
}

std::string row(const Line& l, const Peers& peers) {
  double peer_us = 0;
  const Peer* peer = best_peer(l, peers, peer_us);
  const double floor = floor_us(l, peers).value_or(0);
  std::string out = "<tr>" + cell(l.op) + cell(std::to_string(l.tokens), "n") + cell(l.dtype) +
                    cell(known(l.scale_bytes, 0), "n") + cell(l.layout) + cell(l.path) + cell(l.combine_quant) +
                    cell(l.routing) + cell(l.mode) + cell(l.num_sms ? std::to_string(l.num_sms) : "", "n") +
                    cell(l.tuned_by);
  out += cell(number(l.us, 2), "n") + cell(known(l.p99_us, 2), "n") + cell(known(floor, 2), "n") +
         cell(floor > 0 ? number(l.us / floor, 2) : "", "n") +
         cell(known(l.wire_bytes > 0 ? l.wire_gbps() : 0, 1), "n") +
         cell(l.limit_gbps > 0 && l.wire_bytes > 0 ? number(100 * l.wire_gbps() / l.limit_gbps, 1) : "", "n");
  return out + cell(peer ? number(peer_us, 1) : "", "n") + cell(peer ? peer->name : "") +
         cell(l.bit_exact ? "yes" : "not in this run") + "</tr>\n";
}

std::string table(const Section& section, const Peers& peers) {
  std::string out = head({"op",      "tokens",    "dtype",      "scale bytes", "layout", "path",     "combine_quant",
                          "routing", "mode",      "num_sms",    "decided by",  "µs",     "p99",      "floor",
                          "× floor", "wire GB/s", "% of limit", "best other",  "which",  "bit exact"});
  std::vector<Line> lines = section.lines;
  std::stable_sort(lines.begin(), lines.end(), [](const Line& a, const Line& b) {
    return std::tie(a.op, a.dtype, a.layout, a.path, a.combine_quant, a.routing, a.mode, a.num_sms, a.tokens) <
           std::tie(b.op, b.dtype, b.layout, b.path, b.combine_quant, b.routing, b.mode, b.num_sms, b.tokens);
  });
  for (const Line& line : lines) out += row(line, peers);
  return out + "</tbody></table></div>\n";
}

std::string title_of(const Section& s) {
  return escaped(s.host) + ", " + std::to_string(s.shape.ranks) + " ranks, hidden " + std::to_string(s.shape.hidden) +
         ", " + std::to_string(s.shape.experts) + " experts, top-" + std::to_string(s.shape.topk);
}

/// Where the figures that are not ours come from.
std::string sources(const Peers& peers) {
  if (peers.peers.empty() && peers.floors.empty()) return "";
  std::string out =
      "<h2>Others, and where their times come from</h2>\n<p>Drawn beside ours where device, ranks and shape agree. "
      "Times of other "
      "machines stand here only.</p>\n";
  out += head({"name", "machine", "op", "dtype", "tokens: µs", "leaves out", "source"});
  for (const Peer& peer : peers.peers) {
    std::string points;
    for (const auto& [tokens, us] : peer.points)
      points += (points.empty() ? "" : ", ") + number(tokens, 0) + ": " + number(us, 1);
    out += "<tr>" + cell(peer.name) + cell(std::to_string(peer.shape.ranks) + "x " + peer.shape.device) +
           cell(peer.op) + cell(peer.dtype) + cell(points, "wide") + cell(peer.leaves_out, "wide") +
           cell(peer.source, "wide") + "</tr>\n";
  }
  for (const Floor& floor : peers.floors)
    out += "<tr>" + cell("floor: " + number(floor.us, 1) + " µs + bytes / " + number(floor.gbps, 0) + " GB/s") +
           cell(std::to_string(floor.ranks) + "x " + floor.device) + "<td></td><td></td><td></td><td></td>" +
           cell(floor.source, "wide") + "</tr>\n";
  return out + "</tbody></table></div>\n";
}

}  // namespace

std::string page_of(const std::vector<Section>& sections, const Peers& peers) {
  std::string out = kHead;
  for (const Section& section : sections) {
    out += "<h2>" + title_of(section) + "</h2>\n" + fingerprint(section) + "<div class=\"plots\">\n";
    for (const Plot& plot : section.plots) out += "<figure>" + svg_of(plot) + "</figure>\n";
    out += "</div>\n<h3>All lines</h3>\n" + table(section, peers);
  }
  return out + sources(peers) + "</body></html>\n";
}

}  // namespace crossdock::tools
