// SPDX-License-Identifier: Apache-2.0
#include "report/report_lines.hpp"

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "command/failures.hpp"
#include "jobs/measure.hpp"

namespace crossdock::tools {
namespace {

using nlohmann::json;

/// "4x NVIDIA H200" -> "NVIDIA H200"
std::string device_of(const std::string& host) {
  const std::size_t x = host.find("x ");
  return x != std::string::npos && host.find_first_not_of("0123456789") == x ? host.substr(x + 2) : host;
}

std::string word(const json& line, const char* key) {
  return line.contains(key) && line[key].is_string() ? line[key].get<std::string>() : "";
}
double figure(const json& line, const char* key) {
  return line.contains(key) && line[key].is_number() ? line[key].get<double>() : 0;
}

Line line_of(const json& j) {
  Line line;
  line.host = j.at("host");
  line.shape = {device_of(line.host), j.at("ranks"), j.at("hidden"), j.at("experts"), j.at("topk")};
  line.op = j.at("op"), line.dtype = j.at("dtype"), line.layout = j.at("layout"), line.path = j.at("path");
  line.combine_quant = j.at("combine_quant"), line.routing = j.at("routing"), line.mode = j.at("mode");
  line.tokens = j.at("tokens"), line.scale_bytes = j.at("scale_bytes"), line.num_sms = j.at("num_sms");
  line.launched_blocks = static_cast<int>(figure(j, "launched_blocks"));
  line.us = j.at("us_median");
  line.commit = word(j, "commit"), line.driver = word(j, "driver"), line.date = word(j, "date");
  line.tuned_by = word(j, "tuned_by");
  line.own_geometry = figure(j, "num_blocks") + figure(j, "num_warps") + figure(j, "splits_per_row") == 0;
  line.bit_exact = j.contains("bit_exact") && j["bit_exact"] == true;
  line.p99_us = figure(j, "us_p99"), line.wire_bytes = figure(j, "wire_bytes"),
  line.limit_gbps = figure(j, "limit_gbps");
  if (j.contains("link_share") && j["link_share"].is_null())
    line.limit_gbps = 0;  // it is of something else than the link
  return line;
}

/// Calls then(line as JSON, "FILE line N") for every line.
template <class Then>
void for_each_line(const std::vector<std::string>& files, Then then) {
  for (const std::string& file : files) {
    std::ifstream in(file);
    if (!in) throw BadInput("cannot read " + file);
    std::string text;
    for (int number = 1; std::getline(in, text); ++number) {
      if (text.empty()) continue;
      const std::string where = file + " line " + std::to_string(number);
      try {
        then(json::parse(text), where);
      } catch (const json::exception& error) {
        throw BadInput(where + " is no line of `crossdock bench --jsonl`: " + error.what());
      }
    }
  }
}

}  // namespace

std::vector<Line> read_lines(const std::vector<std::string>& files) {
  std::vector<Line> lines;
  for_each_line(files, [&](const json& j, const std::string& where) {
    if (j.contains("limit")) return;
    lines.push_back(line_of(j));
    if (lines.back().us <= 0 || lines.back().tokens < 1)
      throw BadInput(where + ": us_median and tokens must be more than 0");
  });
  if (lines.empty())
    throw BadInput("there is no line of a timed call in the files given; `crossdock bench --jsonl` writes them");
  return lines;
}

std::vector<Floor> read_floors(const std::vector<std::string>& files) {
  std::map<std::pair<std::string, int>, Floor> found;
  for_each_line(files, [&](const json& j, const std::string& where) {
    if (!j.contains("limit")) return;
    const std::string limit = j.at("limit"), host = j.at("host");
    const int ranks = j.at("ranks");
    Floor& floor = found[{device_of(host), ranks}];
    const double us = figure(j, "us"), gbps = figure(j, "gbps");
    if (limit == kMeetingKernel && us > 0 && (floor.us == 0 || us < floor.us))
      floor.us = us;
    else if (limit.starts_with(kPush) && figure(j, "row_bytes") == kFloorRowBytes && gbps > floor.gbps)
      floor.gbps = gbps;
    else
      return;
    floor.source = "`crossdock bench --limits`, " + where + ", " + word(j, "date");
  });
  std::vector<Floor> whole;
  for (auto& [of, floor] : found) {
    floor.device = of.first, floor.ranks = of.second;
    if (floor.us > 0 && floor.gbps > 0) whole.push_back(floor);
  }
  return whole;
}

Peers with_floors(Peers peers, const std::vector<Floor>& floors) {
  for (const Floor& own : floors) {
    std::erase_if(peers.floors, [&](const Floor& f) { return f.device == own.device && f.ranks == own.ranks; });
    peers.floors.push_back(own);
  }
  return peers;
}

Peers read_peers(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw BadInput("cannot read " + file);
  try {
    const json all = json::parse(in);
    Peers peers;
    for (const json& j : all.at("series")) {
      Peer peer;
      peer.shape = {j.at("device"), j.at("ranks"), j.at("hidden"), j.at("experts"), j.at("topk")};
      peer.name = j.at("name"), peer.op = j.at("op"), peer.dtype = j.at("dtype"),
      peer.scale_bytes = j.at("scale_bytes");
      peer.leaves_out = j.at("leaves_out"), peer.source = j.at("source");
      peer.points = j.at("points").get<std::vector<std::pair<double, double>>>();
      peers.peers.push_back(peer);
    }
    for (const json& j : all.at("floors"))
      peers.floors.push_back({j.at("device"), j.at("source"), j.at("ranks"), j.at("us"), j.at("gbps")});
    return peers;
  } catch (const json::exception& error) {
    throw BadInput(file + ": " + error.what());
  }
}

}  // namespace crossdock::tools
