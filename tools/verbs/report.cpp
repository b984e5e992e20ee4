// SPDX-License-Identifier: Apache-2.0
// `crossdock report`: lines of a bench as one page that needs no network, or one of its plots as a picture.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <set>

#include "command/text_file.hpp"
#include "command/verbs.hpp"
#include "crossdock/crossdock.hpp"
#include "report/report_page.hpp"

namespace crossdock::tools {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string peers, out, svg;
  bool list = false;
};

void write(const std::string& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out) throw BadInput("cannot write " + file);
}

const Plot& plot_named(const std::vector<Section>& sections, const std::string& name) {
  std::string all;
  for (const Section& section : sections)
    for (const Plot& plot : section.plots) {
      if (plot.name == name) return plot;
      all += (all.empty() ? "" : ", ") + plot.name;
    }
  throw BadInput("--svg: there is no plot `" + name + "`; there are " + (all.empty() ? "none" : all));
}

void report(const Options& o) {
  const std::string file = o.peers.empty() ? shipped_file("bench/peers.json") : o.peers;
  const Peers peers = with_floors(file.empty() ? Peers() : read_peers(file), read_floors(o.files));
  const std::vector<Line> lines = read_lines(o.files);
  const std::vector<Section> sections = sections_of(lines, peers);
  if (o.list)
    for (const Section& section : sections)
      for (const Plot& plot : section.plots) std::printf("%-32s %s\n", plot.name.c_str(), plot.title.c_str());
  if (o.list) return;
  if (o.out.empty()) throw BadInput("-o,--out is required");
  write(o.out, o.svg.empty() ? page_of(sections, peers) : svg_of(plot_named(sections, o.svg)));
}

void add_report(CLI::App& app) {
  const auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("report", "Lines of a bench as a page of plots and tables that stands alone");
  verb->add_option("lines", o->files, "Files of `crossdock bench --jsonl`")->required();
  verb->add_option("-o,--out", o->out, "The page (HTML), or the picture");
  verb->add_option("--svg", o->svg, "Write the plot of this name alone, as SVG");
  verb->add_flag("--list", o->list, "Print names and titles of the plots, and nothing else");
  verb->add_option(
      "--peers", o->peers,
      "Times of other libraries and floors; without it bench/peers.json of the repository or installation");
  verb->callback([o] { report(*o); });
}

const Verb kVerb{35, add_report};

}  // namespace
}  // namespace crossdock::tools
