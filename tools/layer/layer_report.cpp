// SPDX-License-Identifier: Apache-2.0
#include "layer/layer_report.hpp"

#include <cstdarg>
#include <cstdio>

#include "command/flags.hpp"

namespace crossdock::tools {
namespace {

/// printf into a string.
[[gnu::format(printf, 2, 3)]] void print(std::string& out, const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  out += text;
}

std::string named(std::string_view name) { return std::string(name); }

std::string tokens_text(const std::vector<int>& tokens) {
  std::string text;
  for (const int count : tokens) text += (text.empty() ? "" : " + ") + grouped(count);
  return text;
}

std::string router_text(const LayerJob& job) {
  const LayerOptions& o = job.options;
  if (job.trace) return "trace " + o.trace + (job.trace->note.empty() ? "" : " (" + job.trace->note + ")");
  std::string text = named(kRouterNames[static_cast<int>(o.router.kind)]);
  if (o.router.kind != RouterKind::deepseek) return text + ": softmax, normalised over the chosen";
  char more[120];
  std::snprintf(more, sizeof more, ": sigmoid + bias, best %d of %d groups, normalised, times %g", o.router.top_groups,
                o.router.num_groups, static_cast<double>(o.router.scaling_factor));
  return text + more;
}

const char* text_use(const LayerJob& job) {
  const auto bytes = static_cast<std::int64_t>(job.text.bytes.size());
  return job.num_tokens() == bytes ? "" : job.num_tokens() > bytes ? "; the text repeats" : ", from its beginning";
}

void print_head(std::string& out, const LayerSummary& s) {
  const LayerOptions& o = s.job.options;
  const Config& c = o.config;
  print(out, "One MoE layer over %s (%s bytes), %d ranks as %s on %s\n", s.job.text.path.c_str(),
        grouped(static_cast<std::int64_t>(s.job.text.bytes.size())).c_str(), o.num_ranks,
        o.processes ? "processes" : "threads", o.backend == BackendKind::cpu ? "the CPU" : "GPUs");
  print(out, "  tokens  %s = %s, one a byte%s\n", tokens_text(s.job.tokens).c_str(),
        grouped(s.job.num_tokens()).c_str(), text_use(s.job));
  print(out, "  layer   hidden %d, %d experts (%d a rank), top %d, expert MLP %d > %d > %d, seed %llu\n", c.hidden,
        c.num_experts, (c.num_experts + o.num_ranks - 1) / o.num_ranks, c.top_k, c.hidden, o.inter, c.hidden,
        static_cast<unsigned long long>(o.seed));
  print(out, "  router  %s\n", router_text(s.job).c_str());
  print(out, "  rows    %s out, %s home, wire %s, %s, %s\n", named(name_of(c.dispatch_dtype)).c_str(),
        named(name_of(c.combine_dtype)).c_str(), named(name_of(c.combine_quant)).c_str(),
        named(name_of(c.layout)).c_str(), c.zero_copy ? "zero_copy" : "staged");
  print(out, "  memory  %s a rank for the exchange\n\n", bytes_text(static_cast<double>(s.memory_bytes)).c_str());
}

void print_matrix(std::string& out, const LayerSummary& s) {
  const int ranks = s.job.num_ranks();
  const auto cell = [&](std::int64_t n) { print(out, "%10s", grouped(n).c_str()); };
  print(out, "Rows sent    ");
  for (int to = 0; to < ranks; ++to) print(out, "%10s", ("to " + std::to_string(to)).c_str());
  print(out, "%10s\n", "sum");
  for (int from = 0; from < ranks; ++from) {
    print(out, "  from %d     ", from);
    std::int64_t sum = 0;
    for (const std::int64_t n : s.rows[static_cast<std::size_t>(from)]) cell(n), sum += n;
    cell(sum);
    out += "\n";
  }
  print(out, "  received   ");
  for (const std::int64_t n : s.received) cell(n);
  cell(s.num_rows);
  print(out, "\n  %.2f rows a token (one for each rank that owns any of its experts), %s out and %s home\n",
        static_cast<double>(s.num_rows) / static_cast<double>(s.job.num_tokens()),
        bytes_text(static_cast<double>(s.dispatch.bytes)).c_str(),
        bytes_text(static_cast<double>(s.combine.bytes)).c_str());
  const Config& c = s.job.options.config;
  const int per_rank = (c.num_experts + ranks - 1) / ranks;
  print(out, "  hottest expert: %d on rank %d, %s of %s (token, expert) pairs, %.1f times the mean\n", s.hottest_expert,
        s.hottest_expert / per_rank, grouped(s.hottest_rows).c_str(), grouped(s.pairs).c_str(),
        s.pairs ? static_cast<double>(s.hottest_rows) * c.num_experts / static_cast<double>(s.pairs) : 0.0);
  if (s.bad_ids)
    print(out, "  %s ids of the trace name no expert; nothing was sent for them\n", grouped(s.bad_ids).c_str());
  out += "\n";
}

void print_times(std::string& out, const LayerSummary& s) {
  print(out, "All ranks       median of %-3d     best      GB/s  of memcpy\n", s.job.options.repeat);
  const auto line = [&](const char* name, const Rate& rate) {
    print(out, "  %-10s %12.3f ms %9.3f ms %7.2f", name, rate.median_s * 1e3, rate.best_s * 1e3,
          rate.bytes_per_s() * 1e-9);
    if (&rate != &s.copy) print(out, "    %4.0f %%", 100 * rate.bytes_per_s() / s.copy.bytes_per_s());
    out += "\n";
  };
  line("dispatch", s.dispatch);
  line("combine", s.combine);
  line("memcpy", s.copy);
  out += "  bytes: rows with scales, once for each (token, rank), the own rank's too\n\n";
}

void print_check(std::string& out, const LayerSummary& s) {
  const std::int64_t values = s.job.num_tokens() * s.job.options.config.hidden;
  print(out, "Check\n  dense layer without communication: %s of %s tokens equal bit for bit (%s values)\n",
        grouped(s.job.num_tokens() - s.num_mismatches).c_str(), grouped(s.job.num_tokens()).c_str(),
        grouped(values).c_str());
  print(out, "  f64 layer: largest error %.3g, relative L2 error %.3g over %s tokens", s.distance.largest,
        s.distance.relative(), grouped(s.distance.num_tokens).c_str());
  if (s.distance_limit) print(out, "; roundings explain up to %.3g", *s.distance_limit);
  out += "\n";
  print(out, "  %s\n", complaint_of(s).empty() ? "OK" : "FAILED");
}

nlohmann::ordered_json rate_json(const Rate& rate) {
  return {
      {"median_s", rate.median_s}, {"best_s", rate.best_s}, {"bytes", rate.bytes}, {"bytes_per_s", rate.bytes_per_s()}};
}

nlohmann::ordered_json config_json(const LayerSummary& s) {
  const LayerOptions& o = s.job.options;
  const Config& c = o.config;
  nlohmann::ordered_json json = {{"ranks", o.num_ranks},
                                 {"processes", o.processes},
                                 {"backend", "cpu"},
                                 {"hidden", c.hidden},
                                 {"inter", o.inter},
                                 {"experts", c.num_experts},
                                 {"top_k", c.top_k},
                                 {"tokens", s.job.tokens},
                                 {"dispatch_dtype", name_of(c.dispatch_dtype)},
                                 {"combine_dtype", name_of(c.combine_dtype)},
                                 {"combine_quant", name_of(c.combine_quant)},
                                 {"layout", name_of(c.layout)},
                                 {"zero_copy", c.zero_copy},
                                 {"scale_bytes", c.scale_bytes},
                                 {"seed", o.seed},
                                 {"repeat", o.repeat}};
  if (s.job.trace)
    json["trace"] = o.trace;
  else
    json["router"] = kRouterNames[static_cast<int>(o.router.kind)];
  return json;
}

}  // namespace

std::string text_of(const LayerSummary& summary) {
  std::string out;
  print_head(out, summary);
  print_matrix(out, summary);
  print_times(out, summary);
  print_check(out, summary);
  return out;
}

nlohmann::ordered_json json_of(const LayerSummary& s) {
  nlohmann::ordered_json json;
  json["config"] = config_json(s);
  json["text"] = {{"path", s.job.text.path}, {"bytes", s.job.text.bytes.size()}};
  json["rows"] = {{"sent", s.rows},
                  {"received", s.received},
                  {"sum", s.num_rows},
                  {"row_bytes", s.row_bytes},
                  {"wire_row_bytes", s.wire_bytes}};
  json["experts"] = {
      {"pairs", s.pairs}, {"hottest", s.hottest_expert}, {"hottest_pairs", s.hottest_rows}, {"bad_ids", s.bad_ids}};
  json["memory_bytes_per_rank"] = s.memory_bytes;
  json["dispatch"] = rate_json(s.dispatch);
  json["combine"] = rate_json(s.combine);
  json["memcpy"] = rate_json(s.copy);
  json["check"] = {
      {"ok", complaint_of(s).empty()},
      {"tokens", s.job.num_tokens()},
      {"tokens_different", s.num_mismatches},
      {"f64_tokens", s.distance.num_tokens},
      {"f64_largest_error", s.distance.largest},
      {"f64_relative_error", s.distance.relative()},
      {"f64_relative_limit", s.distance_limit ? nlohmann::ordered_json(*s.distance_limit) : nlohmann::ordered_json()}};
  char digest[24];
  std::snprintf(digest, sizeof digest, "%016llx", static_cast<unsigned long long>(s.digest));
  json["result_digest"] = digest;
  return json;
}

}  // namespace crossdock::tools
