// SPDX-License-Identifier: Apache-2.0
#include "report/bench_record.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cmath>
#include <ctime>

#include "machine/times.hpp"
#include "problem/rows.hpp"

namespace crossdock::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSourceBytes = sizeof(RowSource), kIdBytes = 4, kWeightBytes = 4;

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
                     partial_row = row_bytes_of(c.combine_dtype, c.hidden),
                     wire_row = wire_row_bytes(c.combine_dtype, c.combine_quant, c.hidden);
  if (p.path == Path::fused)
    return partial_rows_between(data).with([&](std::int64_t rows) { return rows * partial_row; });
  return rows_between(data).returned().with([&](std::int64_t rows) { return rows * (wire_row + weights); });
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

std::string now() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

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
  record.set_times(timing.us);
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

void Record::set_times(const std::vector<double>& us) {
  repeats = static_cast<int>(us.size());
  us_median = quantile(us, 0.5);
  us_p99 = quantile(us, 0.99);
  us_min = quantile(us, 0);
}

namespace {

/// part(launch) of the calls that were made; of a pair "dispatch+combine", where they differ.
template <class Part>
Json of_calls(const Record& r, Part part) {
  const auto first = part(dispatches(r.run.op) ? r.dispatch : r.combine);
  const auto second = part(combines(r.run.op) ? r.combine : r.dispatch);
  return first == second ? Json(first) : Json(fmt::format("{}+{}", first, second));
}

Json if_any(bool any, double figure) { return any ? Json(figure) : Json(); }

/// What a key is for: it tells what was run; it does so in some lines only; a line about no call has none.
enum Use { kFigure = 0, kIdentity = 1, kAlsoTells = 2, kOfCalls = 4 };

/// A key of JSON lines and CSV. With a title it is a column of the table too.
struct Column {
  const char* key;
  int use;
  Json (*value)(const Record& r);
  const char* title = nullptr;
  int width = 0;              // negative: to the left
  const char* number = "{}";  // how a fraction is written; with % times 100
};

#define XD_VALUE(expression) [](const Record& r) -> Json { return expression; }
#define XD_SHAPE(member) [](const Record& r) -> Json { return r.problem.shape.member; }
#define XD_LAUNCH(member) XD_VALUE(of_calls(r, [](const LaunchInfo& launch) { return launch.member; }))
#define XD_SHAPE_NAME(member) [](const Record& r) -> Json { return name_of(r.problem.shape.member); }

/// Up to `mode` they say what was run.
const Column kColumns[] = {
    {"op", kIdentity, XD_VALUE(kOpNames[static_cast<int>(r.run.op)]), "op", -10},
    {"ranks", kIdentity, XD_SHAPE(num_ranks), "ranks", 5},
    {"tokens", kIdentity, XD_SHAPE(max_tokens_per_rank), "tokens", 6},
    {"hidden", kIdentity, XD_SHAPE(hidden), "hidden", 6},
    {"experts", kIdentity, XD_SHAPE(num_experts), "experts", 7},
    {"topk", kIdentity, XD_SHAPE(top_k), "topk", 4},
    {"dtype", kIdentity,
     XD_VALUE(name_of(dispatches(r.run.op) ? r.problem.shape.dispatch_dtype : r.problem.shape.combine_dtype))},
    {"dispatch_dtype", kAlsoTells, XD_SHAPE_NAME(dispatch_dtype), "dtype", -12},
    {"combine_dtype", kAlsoTells, XD_SHAPE_NAME(combine_dtype), "combine", -12},
    {"scale_bytes", kIdentity, XD_SHAPE(scale_bytes), "scales", 6},
    {"layout", kIdentity, XD_SHAPE_NAME(layout), "layout", -12},
    {"path", kIdentity, XD_VALUE(name_of(r.problem.path)), "path", -9},
    {"combine_quant", kIdentity, XD_SHAPE_NAME(combine_quant), "combine_quant", -15},
    {"packets", kFigure, XD_VALUE(r.packets)},
    {"routing", kIdentity, XD_VALUE(routing_name(r.problem)), "routing", -14},
    {"combine_topk_weights", kFigure, XD_VALUE(r.problem.second_result), "weights", -7},
    {"num_sms", kIdentity, XD_VALUE(r.run.geometry.num_sms)},
    {"num_blocks", kAlsoTells, XD_VALUE(r.run.geometry.num_blocks)},
    {"num_warps", kAlsoTells, XD_VALUE(r.run.geometry.num_warps)},
    {"splits_per_row", kAlsoTells, XD_VALUE(r.run.geometry.splits_per_row)},
    {"mode", kIdentity, XD_VALUE(kModeNames[static_cast<int>(r.run.mode)]), "mode", -9},
    {"launched_blocks", kOfCalls, XD_LAUNCH(num_blocks)},
    {"launched_warps", kOfCalls, XD_LAUNCH(num_warps)},
    {"launched_splits_per_row", kOfCalls, XD_LAUNCH(splits_per_row)},
    {"repeat", kFigure, XD_VALUE(r.repeats), "times", 5},
    {"commit", kFigure, XD_VALUE(r.setting.commit)},
    {"us_median", kFigure, XD_VALUE(rounded(r.us_median, 2)), "us median", 11, "{:.1f}"},
    {"us_p99", kFigure, XD_VALUE(rounded(r.us_p99, 2)), "us p99", 11, "{:.1f}"},
    {"us_min", kFigure, XD_VALUE(rounded(r.us_min, 2)), "us min", 11, "{:.1f}"},
    {"host_us_median", kFigure, XD_VALUE(if_any(r.host_us > 0, rounded(r.host_us, 2))), "host us", 8, "{:.2f}"},
    {"over_us", kFigure, XD_VALUE(if_any(r.plain_us > 0, rounded(r.over_us(), 2))), "over plain us", 13, "{:+.1f}"},
    {"over_share", kFigure, XD_VALUE(if_any(r.plain_us > 0, rounded(r.over_share(), 3))), "over plain", 10, "{:+.1f}%"},
    {"floor_us", kFigure, XD_VALUE(if_any(r.floor_us > 0, rounded(r.floor_us, 2)))},
    {"rel_error", kFigure, XD_VALUE(if_any(r.rel_error.has_value(), rounded(r.rel_error.value_or(0), 6))), "rel error",
     9, "{:.6f}"},
    {"wire_bytes", kOfCalls, XD_VALUE(r.wire_bytes)},
    {"wire_gbps", kOfCalls, XD_VALUE(rounded(r.wire_gbps(), 3)), "wire", 8, "{:.2f}"},
    {"limit_gbps", kOfCalls, XD_VALUE(rounded(r.limit_gbps, 3)), "limit", 8, "{:.2f}"},
    {"pattern_gbps", kFigure, XD_VALUE(if_any(r.pattern_gbps > 0, rounded(r.pattern_gbps, 3)))},
    {"logical_gbps", kOfCalls, XD_VALUE(rounded(r.logical_gbps(), 3)), "payload", 8, "{:.2f}"},
    {"payload_gbps", kOfCalls, XD_VALUE(rounded(r.payload_gbps(), 3))},
    {"payload_share", kOfCalls, XD_VALUE(rounded(r.payload_share(), 3)), "of limit", 8, "{:.1f}%"},
    {"link_share", kOfCalls, XD_VALUE(if_any(r.setting.limit_of_link, rounded(r.link_share(), 3))), "of link", 7,
     "{:.1f}%"},
    {"tuned_by", kOfCalls, XD_VALUE(of_calls(r, [](const LaunchInfo& launch) { return name_of(launch.tuned_by); })),
     "decided by", -11},
    {"bit_exact", kOfCalls, XD_VALUE(r.counts()), "exact"},
    {"host", kIdentity, XD_VALUE(r.setting.host)},
    {"driver", kFigure, XD_VALUE(r.setting.driver)},
    {"date", kFigure, XD_VALUE(r.setting.date)},
};
#undef XD_VALUE
#undef XD_LAUNCH
#undef XD_SHAPE
#undef XD_SHAPE_NAME

std::string text_of(const Column& column, const Json& value) {
  if (value.is_number_float())
    return fmt::format(fmt::runtime(column.number),
                       value.get<double>() * (std::string_view(column.number).ends_with('%') ? 100 : 1));
  if (value.is_boolean()) return value ? "yes" : "no";
  return value.is_null() ? "-" : value.is_string() ? value.get<std::string>() : value.dump();
}

/// Columns of the table up to the one with this key.
template <class Text>
std::string row_of(std::string_view last, Text text) {
  std::string row;
  for (const Column& column : kColumns) {
    if (column.title)
      row += column.width < 0 ? fmt::format("{:<{}} ", text(column), -column.width)
                              : fmt::format("{:>{}} ", text(column), column.width);
    if (column.key == last) break;
  }
  row.pop_back();
  return row;
}

}  // namespace

std::string table_head() {
  return row_of("bit_exact", [](const Column& column) { return column.title; });
}

std::string table_row(const Json& line, bool figures) {
  return row_of(figures ? "bit_exact" : "mode",
                [&](const Column& column) { return text_of(column, line[column.key]); });
}

Json to_json(const Record& record) {
  Json line;
  for (const Column& column : kColumns) line[column.key] = column.value(record);
  return line;
}

Json creation_json(const std::string& what, const Problem& problem, const Setting& setting,
                   const std::vector<double>& us) {
  Record record;
  record.problem = problem;
  record.setting = setting;
  record.set_times(us);
  Json line = to_json(record);
  for (const Column& column : kColumns)
    if (column.use & kOfCalls) line[column.key] = nullptr;
  line["op"] = what;
  line["mode"] = "processes";
  return line;
}

std::string identity_of(const Json& line) {
  std::string identity;
  for (const Column& column : kColumns)
    if (column.use & kIdentity) identity += line.value(column.key, Json()).dump() + " ";
  return identity;
}

bool same_run(const Json& a, const Json& b) {
  for (const Column& column : kColumns)
    if (column.use & kAlsoTells && a.contains(column.key) && b.contains(column.key) && a[column.key] != b[column.key])
      return false;
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
  const Json is = to_json(record), wanted = to_json(plain);
  if (identity_of(is) == identity_of(wanted) && same_run(is, wanted)) return;
  for (const Record& other : earlier) {
    const Json line = to_json(other);
    if (other.counts() && identity_of(line) == identity_of(wanted) && same_run(line, wanted))
      record.plain_us = other.us_median;
  }
}

}  // namespace crossdock::tools
