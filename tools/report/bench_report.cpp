// SPDX-License-Identifier: Apache-2.0
#include "report/bench_report.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <vector>

#include "command/failures.hpp"
#include "command/old_names.hpp"

namespace crossdock::tools {
namespace {

/// More wire bytes than this: the time is a matter of bandwidth.
constexpr std::int64_t kBandwidthBytes = std::int64_t{4} << 20;
constexpr double kLatencyTolerance = 0.05, kBandwidthTolerance = 0.03;

std::string what(const Record& r) {
  const oracle::Case& c = r.problem.shape;
  char line[256];
  const std::string op = std::string(kOpNames[int(r.run.op)]) + (r.problem.second_result ? "+w" : "");
  const std::string dtype = c.dispatch_dtype == c.combine_dtype
                                ? std::string(name_of(c.dispatch_dtype))
                                : std::string(name_of(c.dispatch_dtype)) + ">" + std::string(name_of(c.combine_dtype));
  std::snprintf(line, sizeof line, "%-10s %5d %6d %6d %7d %4d %-14s %-12s %-9s %-15s %-14s %-6s", op.c_str(),
                c.num_ranks, c.max_tokens_per_rank, c.hidden, c.num_experts, c.top_k, dtype.c_str(),
                name_of(c.layout).data(), name_of(r.problem.path).data(), name_of(c.combine_quant).data(),
                routing_name(r.problem).data(), kModeNames[int(r.run.mode)].data());
  return line;
}

template <class... Figures>
std::string text(const char* format, Figures... figures) {
  char line[64];
  std::snprintf(line, sizeof line, format, figures...);
  return line;
}

std::ofstream open_or_complain(const std::string& file, std::ios::openmode mode) {
  std::ofstream out(file, mode);
  if (!out) throw BadInput("cannot write " + file);
  return out;
}

/// An old line has another identity, so that nothing would be compared with it.
void refuse_old_keys(const nlohmann::ordered_json& line, const std::string& where) {
  for (const auto& [key, value] : line.items())
    if (const std::string hint = hint_of_renamed(key); !hint.empty())
      throw BadInput(where + " is of an older version" + hint + "; rename the key, or write the file anew");
}

using Baseline = std::map<std::string, std::vector<nlohmann::ordered_json>>;

Baseline read_baseline(const std::string& file) {
  std::ifstream in(file);
  if (!in) throw BadInput("--compare: cannot read " + file);
  Baseline lines;
  std::string text;
  for (int number = 1; std::getline(in, text); ++number) {
    if (text.empty()) continue;
    nlohmann::ordered_json line = nlohmann::ordered_json::parse(text, nullptr, false);
    if (line.is_object() && line.contains("limit")) continue;
    const bool usable =
        line.is_object() && line.contains("us_median") && line["us_median"].is_number() && line["us_median"] > 0;
    if (!usable)
      throw BadInput("--compare: " + file + " line " + std::to_string(number) +
                     " is no line of `crossdock bench --jsonl`");
    refuse_old_keys(line, "--compare: " + file + " line " + std::to_string(number));
    const std::string identity = identity_of(line);
    lines[identity].push_back(std::move(line));
  }
  return lines;
}

/// Time of the newest line about the same, 0 if there is none.
double time_before(const Baseline& baseline, const Record& r) {
  double us = 0;
  const nlohmann::ordered_json line = to_json(r);
  if (const auto found = baseline.find(identity_of(line)); found != baseline.end())
    for (const nlohmann::ordered_json& before : found->second)
      if (same_run(before, line)) us = before["us_median"];
  return us;
}

}  // namespace

void print_table_head(const Measurer& measurer, const Setting& setting) {
  std::printf("# %s, %s, commit %s; limit: %s. GB/s of a rank; share: %s of the limit\n", setting.host.c_str(),
              setting.driver.c_str(), setting.commit.c_str(), measurer.limit_name().c_str(),
              setting.limit_of_link ? "wire" : "payload");
  std::printf(
      "%-10s %5s %6s %6s %7s %4s %-14s %-12s %-9s %-15s %-14s %-6s %11s %11s %11s %8s %8s %8s %6s %-11s %8s %9s %18s "
      "%s\n",
      "op", "ranks", "tokens", "hidden", "experts", "topk", "dtype", "layout", "path", "combine_quant", "routing",
      "mode", "us median", "us p99", "us min", "wire", "payload", "limit", "share", "decided by", "host us",
      "rel error", "over plain", "exact");
  std::fflush(stdout);
}

void print_table_line(const Record& r) {
  std::printf("%s ", what(r).c_str());
  if (!r.refused.empty())
    std::printf("refused: %s\n", r.refused.c_str());
  else if (!r.wrong.empty())
    std::printf("no time, for the result is wrong: %s\n", r.wrong.c_str());
  else
    std::printf("%11.1f %11.1f %11.1f %8.2f %8.2f %8.2f %5.1f%% %-11s %8s %9s %18s yes\n", r.us_median, r.us_p99,
                r.us_min, r.wire_gbps(), r.logical_gbps(), r.limit_gbps, 100 * r.share(), r.tuned_by().c_str(),
                r.host_us > 0 ? text("%.2f", r.host_us).c_str() : "-",
                r.rel_error ? text("%.2e", *r.rel_error).c_str() : "-",
                r.plain_us > 0 ? text("%+.1f%% %+.1f us", 100 * r.over_share(), r.over_us()).c_str() : "-");
  std::fflush(stdout);
}

void print_creation(const Setting& setting, const std::vector<nlohmann::ordered_json>& lines) {
  std::printf("# %s, %s, commit %s; each time in new processes, which have a context\n", setting.host.c_str(),
              setting.driver.c_str(), setting.commit.c_str());
  std::printf("%-10s %5s %6s %6s %7s %4s %-14s %-12s %-9s %11s %11s %11s %6s\n", "made", "ranks", "tokens", "hidden",
              "experts", "topk", "dtype", "layout", "path", "us median", "us p99", "us min", "times");
  const auto word = [](const nlohmann::ordered_json& line, const char* key) { return line[key].get<std::string>(); };
  for (const nlohmann::ordered_json& j : lines)
    std::printf("%-10s %5d %6d %6d %7d %4d %-14s %-12s %-9s %11.1f %11.1f %11.1f %6d\n", word(j, "op").c_str(),
                j["ranks"].get<int>(), j["tokens"].get<int>(), j["hidden"].get<int>(), j["experts"].get<int>(),
                j["topk"].get<int>(), word(j, "dispatch_dtype").c_str(), word(j, "layout").c_str(),
                word(j, "path").c_str(), j["us_median"].get<double>(), j["us_p99"].get<double>(),
                j["us_min"].get<double>(), j["repeat"].get<int>());
  std::fflush(stdout);
}

void print_limit(const Limit& limit) {
  limit.us > 0 ? std::printf("%-64s %8.2f us\n", limit.what.c_str(), limit.us)
               : std::printf("%-64s %8.2f GB/s\n", limit.what.c_str(), limit.gbps);
}

std::vector<nlohmann::ordered_json> lines_of(const std::vector<Limit>& limits, const Setting& setting) {
  using nlohmann::ordered_json;
  std::vector<ordered_json> lines;
  lines.reserve(limits.size());
  const auto known = [](const auto& value) { return value ? ordered_json(value) : ordered_json(); };
  for (const Limit& limit : limits) {
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
  }
  return lines;
}

std::vector<nlohmann::ordered_json> lines_of(const std::vector<Record>& records) {
  std::vector<nlohmann::ordered_json> lines;
  for (const Record& r : records)
    if (r.counts()) lines.push_back(to_json(r));
  return lines;
}

void append_json_lines(const std::string& file, const std::vector<nlohmann::ordered_json>& lines) {
  std::ofstream out = open_or_complain(file, std::ios::app);
  for (const nlohmann::ordered_json& line : lines) out << line.dump() << "\n";
}

void write_csv(const std::string& file, const std::vector<nlohmann::ordered_json>& lines) {
  std::ofstream out = open_or_complain(file, std::ios::trunc);
  bool head = true;
  for (const nlohmann::ordered_json& line : lines) {
    const char* comma = "";
    for (const auto& [key, value] : line.items()) {
      if (!head) break;
      out << comma << key;
      comma = ",";
    }
    if (head) out << "\n";
    head = false;
    comma = "";
    for (const auto& [key, value] : line.items()) {
      out << comma << value.dump();
      comma = ",";
    }
    out << "\n";
  }
}

int compare_with_floor(double signal_us, const std::vector<Record>& records) {
  int judged = 0, missed = 0;
  std::printf("\n# against 1.25 x floor + 3 us; floor: %.2f us of one signal, and the bytes at the limit's rate\n",
              signal_us);
  if (std::any_of(records.begin(), records.end(), [](const Record& r) { return r.pattern_gbps > 0; }))
    std::printf(
        "# routings that favour experts: against 1.15 x floor, and 5 us for up to 128 tokens; floor: that signal, and "
        "the bytes at the rate of a bare copy from and to the same ranks\n");
  for (const Record& r : records) {
    if (!r.counts() || r.floor_us <= 0) continue;
    ++judged;
    const bool misses = r.us_median > allowed_us(r);
    missed += misses;
    if (!misses && r.pattern_gbps <= 0) continue;
    std::printf("%s %11.1f us, floor %.1f, allowed %.1f%s%s\n", what(r).c_str(), r.us_median, r.floor_us, allowed_us(r),
                r.pattern_gbps > 0 ? text(", bare copy %.2f GB/s", r.pattern_gbps).c_str() : "",
                misses ? "  MISS" : "");
  }
  std::printf("# %d lines judged, %d misses\n", judged, missed);
  if (judged == 0)
    throw BadInput(
        "--floor: there is no rate that a floor could be made of; leave out --by-queues, and give each rank a GPU of "
        "its own and, where the routing favours experts, others to send to");
  return missed;
}

bool compare_with_baseline(const std::string& file, const std::vector<Record>& records) {
  const Baseline baseline = read_baseline(file);
  int compared = 0, worse = 0;
  std::printf("\n# against %s: latency may grow by %.0f %%, bandwidth may shrink by %.0f %%\n", file.c_str(),
              100 * kLatencyTolerance, 100 * kBandwidthTolerance);
  for (const Record& r : records) {
    const double before = r.counts() ? time_before(baseline, r) : 0;
    if (before == 0) continue;
    ++compared;
    const double ratio = r.us_median / before;
    const bool by_bandwidth = r.wire_bytes > kBandwidthBytes;
    const bool regressed = by_bandwidth ? 1 / ratio < 1 - kBandwidthTolerance : ratio > 1 + kLatencyTolerance;
    worse += regressed;
    std::printf("%s %11.1f -> %11.1f us  %+6.1f %%%s\n", what(r).c_str(), before, r.us_median, 100 * (ratio - 1),
                regressed ? "  REGRESSION" : "");
  }
  std::printf("# %d lines compared, %d regressions, %zu lines without a counterpart\n", compared, worse,
              records.size() - compared);
  if (compared == 0) throw BadInput("--compare: " + file + " has no line about any of these calls on this host");
  return worse > 0;
}

}  // namespace crossdock::tools
