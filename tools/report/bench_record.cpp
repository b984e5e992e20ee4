// SPDX-License-Identifier: Apache-2.0
#include "report/bench_record.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>

namespace crossdock::tools {
namespace {

constexpr int kSourceBytes = sizeof(RowSource), kIdBytes = 4, kWeightBytes = 4;

/// Bytes of a wire row of combine, by the definition of the wires.
std::int64_t wire_row_bytes(const oracle::Case& c) {
  const std::int64_t hidden = c.hidden, codes = (hidden + 15) / 16 * 16, blocks = (hidden + 127) / 128;
  if (c.combine_quant == CombineQuant::none) return row_bytes_of(c.combine_dtype, c.hidden);
  return c.combine_quant == CombineQuant::fp8_direct_cast ? codes : codes + (blocks + 15) / 16 * 16;
}

/// Rows that dispatch sends between different ranks.
Traffic rows_between(const Data& data) {
  Traffic rows(data.problem.shape.num_ranks);
  for (int to = 0; to < rows.num_ranks(); ++to)
    for (int from = 0; from < rows.num_ranks(); ++from) rows.add(from, to, data.answers[to].rows_per_source[from]);
  return rows;
}

/// Partial rows of Path::fused between different ranks: one per kept id.
Traffic partial_rows_between(const Data& data) {
  const oracle::Case& c = data.problem.shape;
  Traffic rows(c.num_ranks);
  for (int home = 0; home < c.num_ranks; ++home)
    for (int t = 0; t < data.answers[home].num_tokens; ++t)
      for (int j = 0; j < c.top_k; ++j)
        if (data.answers[home].kept_ids[t] >> j & 1)
          rows.add(oracle::rank_of_expert(c, data.inputs[home].ids[std::int64_t{t} * c.top_k + j]), home, 1);
  return rows;
}

Traffic traffic_of_dispatch(const Data& data, bool along_plan) {
  const oracle::Case& c = data.problem.shape;
  const std::int64_t row = row_bytes_of(c.dispatch_dtype, c.hidden) + c.scale_bytes,
                     metadata = c.top_k * (kIdBytes + kWeightBytes) + kSourceBytes,
                     counts = std::int64_t{oracle::experts_per_rank(c)} * 4;
  return rows_between(data).with([&](std::int64_t rows) {
    return along_plan ? rows * row : rows * (row + metadata) + counts;  // a plan holds metadata and counts
  });
}

Traffic traffic_of_combine(const Data& data) {
  const Problem& p = data.problem;
  const oracle::Case& c = p.shape;
  const std::int64_t weights = p.second_result ? c.top_k * kWeightBytes : 0,
                     partial_row = row_bytes_of(c.combine_dtype, c.hidden);
  if (p.path == Path::fused)
    return partial_rows_between(data).with([&](std::int64_t rows) { return rows * partial_row; });
  return rows_between(data).returned().with([&](std::int64_t rows) { return rows * (wire_row_bytes(c) + weights); });
}

std::int64_t payload_bytes_of(const Data& data, Op op) {
  const oracle::Case& c = data.problem.shape;
  const std::int64_t rows = rows_received(data);
  return (dispatches(op) ? rows * row_bytes_of(c.dispatch_dtype, c.hidden) : 0) +
         (combines(op) ? rows * row_bytes_of(c.combine_dtype, c.hidden) : 0);
}

/// To so many decimal places: the double nearest to them, which prints no more.
double rounded(double value, int places) {
  const double scale = std::pow(10, places);
  return std::round(value * scale) / scale;
}

}  // namespace

std::string now() {
  char text[32];
  const std::time_t time = std::time(nullptr);
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&time));
  return text;
}

double quantile(std::vector<double> samples, double share) {
  if (samples.empty()) return 0;
  std::sort(samples.begin(), samples.end());
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(samples.size())));
  return samples[rank > 0 ? rank - 1 : 0];
}

std::vector<Traffic> traffic_of(const Data& data, Op op) {
  std::vector<Traffic> all;
  if (dispatches(op)) all.push_back(traffic_of_dispatch(data, op == Op::replay));
  if (combines(op)) all.push_back(traffic_of_combine(data));
  return all;
}

Record record_of(const Data& data, const Run& run, const Timing& timing) {
  Record record;
  record.problem = data.problem;
  record.run = run;
  record.wrong = timing.wrong;
  record.repeats = static_cast<int>(timing.us.size());
  record.us_median = quantile(timing.us, 0.5);
  record.us_p99 = quantile(timing.us, 0.99);
  record.us_min = quantile(timing.us, 0);
  record.traffic = traffic_of(data, run.op);
  for (const Traffic& bytes : record.traffic) record.wire_bytes += bytes.busiest();
  record.payload_bytes = payload_bytes_of(data, run.op);
  record.limit_gbps = timing.limit_gbps;
  record.host_us = timing.host_us;
  record.packets = uses_ll_packets(data.problem);
  record.dispatch = timing.dispatch;
  record.combine = timing.combine;
  return record;
}

std::string Record::tuned_by() const {
  const std::string first(name_of(dispatches(run.op) ? dispatch.tuned_by : combine.tuned_by));
  const std::string second(name_of(combines(run.op) ? combine.tuned_by : dispatch.tuned_by));
  return first == second ? first : first + "+" + second;
}

namespace {

/// How many blocks, warps or splits_per_row the calls were launched with; of a pair "dispatch+combine", where they differ.
nlohmann::ordered_json launched(const Record& r, int LaunchInfo::*what) {
  const int first = (dispatches(r.run.op) ? r.dispatch : r.combine).*what;
  const int second = (combines(r.run.op) ? r.combine : r.dispatch).*what;
  if (first == second) return first;
  return std::to_string(first) + "+" + std::to_string(second);
}

nlohmann::ordered_json if_any(bool any, double figure) {
  return any ? nlohmann::ordered_json(figure) : nlohmann::ordered_json();
}

}  // namespace

nlohmann::ordered_json to_json(const Record& r) {
  const oracle::Case& c = r.problem.shape;
  nlohmann::ordered_json j;
  j["op"] = kOpNames[static_cast<int>(r.run.op)];
  j["ranks"] = c.num_ranks;
  j["tokens"] = c.max_tokens_per_rank;
  j["hidden"] = c.hidden;
  j["experts"] = c.num_experts;
  j["topk"] = c.top_k;
  j["dtype"] = name_of(dispatches(r.run.op) ? c.dispatch_dtype : c.combine_dtype);
  j["dispatch_dtype"] = name_of(c.dispatch_dtype);
  j["combine_dtype"] = name_of(c.combine_dtype);
  j["scale_bytes"] = c.scale_bytes;
  j["layout"] = name_of(c.layout);
  j["path"] = name_of(r.problem.path);
  j["combine_quant"] = name_of(c.combine_quant);
  j["packets"] = r.packets;
  j["routing"] = routing_name(r.problem);
  j["combine_topk_weights"] = r.problem.second_result;
  j["num_sms"] = r.run.geometry.num_sms;
  j["num_blocks"] = r.run.geometry.num_blocks;
  j["num_warps"] = r.run.geometry.num_warps;
  j["splits_per_row"] = r.run.geometry.splits_per_row;
  j["launched_blocks"] = launched(r, &LaunchInfo::num_blocks);
  j["launched_warps"] = launched(r, &LaunchInfo::num_warps);
  j["launched_splits_per_row"] = launched(r, &LaunchInfo::splits_per_row);
  j["tuned_by"] = r.tuned_by();
  j["mode"] = kModeNames[static_cast<int>(r.run.mode)];
  j["repeat"] = r.repeats;
  j["commit"] = r.setting.commit;
  j["us_median"] = rounded(r.us_median, 2);
  j["us_p99"] = rounded(r.us_p99, 2);
  j["us_min"] = rounded(r.us_min, 2);
  j["host_us_median"] = if_any(r.host_us > 0, rounded(r.host_us, 2));
  j["over_us"] = if_any(r.plain_us > 0, rounded(r.over_us(), 2));
  j["over_share"] = if_any(r.plain_us > 0, rounded(r.over_share(), 3));
  j["floor_us"] = if_any(r.floor_us > 0, rounded(r.floor_us, 2));
  j["rel_error"] = if_any(r.rel_error.has_value(), rounded(r.rel_error.value_or(0), 6));
  j["wire_bytes"] = r.wire_bytes;
  j["wire_gbps"] = rounded(r.wire_gbps(), 3);
  j["limit_gbps"] = rounded(r.limit_gbps, 3);
  j["pattern_gbps"] = if_any(r.pattern_gbps > 0, rounded(r.pattern_gbps, 3));
  j["logical_gbps"] = rounded(r.logical_gbps(), 3);
  j["payload_gbps"] = rounded(r.payload_gbps(), 3);
  j["payload_share"] = rounded(r.payload_share(), 3);
  j["link_share"] = if_any(r.setting.limit_of_link, rounded(r.link_share(), 3));
  j["bit_exact"] = r.counts();
  j["host"] = r.setting.host;
  j["driver"] = r.setting.driver;
  j["date"] = r.setting.date;
  return j;
}

nlohmann::ordered_json creation_json(const std::string& what, const Problem& problem, const Setting& setting,
                                     const std::vector<double>& us) {
  Record record;
  record.problem = problem;
  record.setting = setting;
  record.repeats = static_cast<int>(us.size());
  record.us_median = quantile(us, 0.5);
  record.us_p99 = quantile(us, 0.99);
  record.us_min = quantile(us, 0);
  nlohmann::ordered_json line = to_json(record);
  line["op"] = what;
  line["mode"] = "processes";
  for (const char* of_calls :
       {"launched_blocks", "launched_warps", "launched_splits_per_row", "tuned_by", "wire_bytes", "wire_gbps",
        "limit_gbps", "logical_gbps", "payload_gbps", "payload_share", "link_share", "bit_exact"})
    line[of_calls] = nullptr;
  return line;
}

std::string identity_of(const nlohmann::ordered_json& line) {
  std::string identity;
  for (const char* key : {"op", "ranks", "tokens", "hidden", "experts", "topk", "dtype", "scale_bytes", "layout",
                          "path", "combine_quant", "routing", "num_sms", "mode", "host"})
    identity += line.value(key, nlohmann::ordered_json()).dump() + " ";
  return identity;
}

bool same_run(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b) {
  for (const char* key : {"dispatch_dtype", "combine_dtype", "num_blocks", "num_warps", "splits_per_row"})
    if (a.contains(key) && b.contains(key) && a[key] != b[key]) return false;
  return a.value("combine_topk_weights", false) == b.value("combine_topk_weights", false);
}

void set_floor(Record& r, double signal_us) {
  const bool favours = favours_experts(r.problem);
  const double gbps = favours ? r.pattern_gbps : r.limit_gbps;
  if (gbps <= 0) return;
  const int num_signals = r.run.op == Op::pair ? 2 : 1;
  const double bytes = favours || r.setting.limit_of_link
                           ? static_cast<double>(r.wire_bytes)
                           : static_cast<double>(r.payload_bytes) / r.problem.shape.num_ranks;
  r.floor_us = num_signals * signal_us + bytes / gbps / 1e3;
}

double allowed_us(const Record& r) {
  constexpr int kFewTokens = 128;
  if (!favours_experts(r.problem)) return 1.25 * r.floor_us + 3;
  return 1.15 * r.floor_us + (r.problem.shape.max_tokens_per_rank <= kFewTokens ? 5 : 0);
}

void set_plain_time(Record& record, const std::vector<Record>& earlier) {
  Record plain = record;
  plain.problem.shape.layout = Layout::token_major;
  plain.problem.second_result = false;
  const nlohmann::ordered_json is = to_json(record), wanted = to_json(plain);
  if (identity_of(is) == identity_of(wanted) && same_run(is, wanted)) return;
  for (const Record& other : earlier) {
    const nlohmann::ordered_json line = to_json(other);
    if (other.counts() && identity_of(line) == identity_of(wanted) && same_run(line, wanted))
      record.plain_us = other.us_median;
  }
}

}  // namespace crossdock::tools
