// SPDX-License-Identifier: Apache-2.0
#include "report/bench_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <vector>

#include "command/failures.hpp"
#include "command/names.hpp"

namespace crossdock::tools {
namespace {

using Json = nlohmann::ordered_json;

/// More wire bytes than this: the time is a matter of bandwidth.
constexpr std::int64_t kBandwidthBytes = std::int64_t{4} << 20;
constexpr double kLatencyTolerance = 0.05, kBandwidthTolerance = 0.03;

std::string what(const Record& record) { return table_row(to_json(record), false); }

std::ofstream open_or_complain(const std::string& file, std::ios::openmode mode) {
  std::ofstream out(file, mode);
  if (!out) throw BadInput("cannot write {}", file);
  return out;
}

/// An old line has another identity, so that nothing would be compared with it.
void refuse_old_keys(const Json& line, const std::string& where) {
  for (const auto& [key, value] : line.items())
    if (const std::string hint = hint_of_renamed(key); !hint.empty())
      throw BadInput("{} is of an older version{}; rename the key, or write the file anew", where, hint);
}

using Baseline = std::map<std::string, std::vector<Json>>;

Baseline read_baseline(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw BadInput("--compare: cannot read {}", file);
  Baseline lines;
  std::string text;
  for (int number = 1; std::getline(in, text); ++number) {
    if (text.empty()) continue;
    Json line = Json::parse(text, nullptr, false);
    if (line.is_object() && line.contains("limit")) continue;
    const std::string where = fmt::format("--compare: {} line {}", file, number);
    if (!line.is_object() || !line.value("us_median", Json()).is_number() || line["us_median"] <= 0)
      throw BadInput("{} is no line of `crossdock bench --jsonl`", where);
    refuse_old_keys(line, where);
    lines[identity_of(line)].push_back(line);
  }
  return lines;
}

/// Time of the newest line about the same, 0 if there is none.
double time_before(const Baseline& baseline, const Record& r) {
  double us = 0;
  const Json line = to_json(r);
  if (const auto found = baseline.find(identity_of(line)); found != baseline.end())
    for (const Json& before : found->second)
      if (same_run(before, line)) us = before["us_median"];
  return us;
}

}  // namespace

void print_head(const Setting& setting, const std::string& note) {
  fmt::print("# {}, {}, commit {}; {}\n{}\n", setting.host, setting.driver, setting.commit, note, table_head());
  std::fflush(stdout);
}

void print_line(const Record& r) {
  if (!r.refused.empty())
    fmt::print("{} refused: {}\n", what(r), r.refused);
  else if (!r.wrong.empty())
    fmt::print("{} no time, for the result is wrong: {}\n", what(r), r.wrong);
  else
    fmt::print("{}\n", table_row(to_json(r)));
  std::fflush(stdout);
}

void print_limit(const Limit& limit) {
  fmt::print("{:<64} {:8.2f} {}\n", limit.what, limit.us > 0 ? limit.us : limit.gbps, limit.us > 0 ? "us" : "GB/s");
}

std::vector<Json> lines_of(const std::vector<Limit>& limits, const Setting& setting) {
  std::vector<Json> lines;
  lines.reserve(limits.size());
  const auto known = [](const auto& value) { return value ? Json(value) : Json(); };
  for (const Limit& limit : limits)
    lines.push_back({{"limit", limit.key},
                     {"what", limit.what},
                     {"ranks", limit.ranks},
                     {"blocks", known(limit.blocks)},
                     {"row_bytes", known(limit.row_bytes)},
                     {"gbps", known(limit.gbps)},
                     {"us", known(limit.us)},
                     {"commit", setting.commit},
                     {"host", setting.host},
                     {"driver", setting.driver},
                     {"date", setting.date}});
  return lines;
}

std::vector<Json> lines_of(const std::vector<Record>& records) {
  std::vector<Json> lines;
  for (const Record& r : records)
    if (r.counts()) lines.push_back(to_json(r));
  return lines;
}

void append_json_lines(const std::string& file, const std::vector<Json>& lines) {
  std::ofstream out = open_or_complain(file, std::ios::app);
  for (const Json& line : lines) out << line.dump() << "\n";
}

void write_csv(const std::string& file, const std::vector<Json>& lines) {
  std::ofstream out = open_or_complain(file, std::ios::trunc);
  const auto row = [&](const Json& line, auto text) {
    std::vector<std::string> cells;
    for (const auto& [key, value] : line.items()) cells.push_back(text(key, value));
    out << fmt::format("{}\n", fmt::join(cells, ","));
  };
  if (!lines.empty()) row(lines.front(), [](const std::string& key, const Json&) { return key; });
  for (const Json& line : lines) row(line, [](const std::string&, const Json& value) { return value.dump(); });
}

int compare_with_floor(double signal_us, const std::vector<Record>& records) {
  int judged = 0, missed = 0;
  fmt::print("\n# against 1.25 x floor + 3 us; floor: {:.2f} us of one signal, and the bytes at the limit's rate\n",
             signal_us);
  if (std::any_of(records.begin(), records.end(), [](const Record& r) { return r.pattern_gbps > 0; }))
    fmt::print(
        "# routings that favour experts: against 1.15 x floor, and 5 us for up to 128 tokens; floor: that signal, and "
        "the bytes at the rate of a bare copy from and to the same ranks\n");
  for (const Record& r : records) {
    if (!r.counts() || r.floor_us <= 0) continue;
    ++judged;
    const bool misses = r.us_median > allowed_us(r);
    missed += misses;
    if (!misses && r.pattern_gbps <= 0) continue;
    fmt::print("{} {:11.1f} us, floor {:.1f}, allowed {:.1f}{}{}\n", what(r), r.us_median, r.floor_us, allowed_us(r),
               r.pattern_gbps > 0 ? fmt::format(", bare copy {:.2f} GB/s", r.pattern_gbps) : "",
               misses ? "  MISS" : "");
  }
  fmt::print("# {} lines judged, {} misses\n", judged, missed);
  if (judged == 0)
    throw BadInput(
        "--floor: there is no rate that a floor could be made of; leave out --by-queues, and give each rank a GPU of "
        "its own and, where the routing favours experts, others to send to");
  return missed;
}

bool compare_with_baseline(const std::string& file, const std::vector<Record>& records) {
  const Baseline baseline = read_baseline(file);
  std::size_t compared = 0, worse = 0;
  fmt::print("\n# against {}: latency may grow by {:.0f} %, bandwidth may shrink by {:.0f} %\n", file,
             100 * kLatencyTolerance, 100 * kBandwidthTolerance);
  for (const Record& r : records) {
    const double before = r.counts() ? time_before(baseline, r) : 0;
    if (before == 0) continue;
    ++compared;
    const double ratio = r.us_median / before;
    const bool by_bandwidth = r.wire_bytes > kBandwidthBytes;
    const bool regressed = by_bandwidth ? 1 / ratio < 1 - kBandwidthTolerance : ratio > 1 + kLatencyTolerance;
    worse += regressed;
    fmt::print("{} {:11.1f} -> {:11.1f} us  {:+6.1f} %{}\n", what(r), before, r.us_median, 100 * (ratio - 1),
               regressed ? "  REGRESSION" : "");
  }
  fmt::print("# {} lines compared, {} regressions, {} lines without a counterpart\n", compared, worse,
             records.size() - compared);
  if (compared == 0) throw BadInput("--compare: {} has no line about any of these calls on this host", file);
  return worse > 0;
}

}  // namespace crossdock::tools
