// SPDX-License-Identifier: Apache-2.0
#include "layer/layer_report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "command/flags.hpp"
#include "problem/rows.hpp"

namespace crossdock::tools {
namespace {

using Json = nlohmann::ordered_json;

Rate rate_of(Shared& shared, Timed what, std::int64_t bytes) {
  std::vector<double> us(static_cast<std::size_t>(shared.repeat));
  for (int i = 0; i < shared.repeat; ++i) us[static_cast<std::size_t>(i)] = us_of(shared.of_ranks(what, i));
  return {median(us) / 1e6, quantile(us, 0) / 1e6, bytes};
}

std::string router_text(const LayerJob& job) {
  const LayerOptions& o = job.options;
  if (job.trace)
    return fmt::format("trace {}{}", o.trace, job.trace->note.empty() ? "" : fmt::format(" ({})", job.trace->note));
  if (o.router.kind == RouterKind::mixtral) return "mixtral: softmax, normalised over the chosen";
  return fmt::format("deepseek: sigmoid + bias, best {} of {} groups, normalised, times {:g}", o.router.top_groups,
                     o.router.num_groups, o.router.scaling_factor);
}

void print_head(const LayerSummary& s) {
  const LayerJob& job = s.job;
  const LayerOptions& o = job.options;
  const Config& c = o.config;
  const auto text_bytes = static_cast<std::int64_t>(job.text.bytes.size());
  std::vector<std::string> tokens;
  for (const int count : job.tokens) tokens.push_back(grouped(count));
  fmt::print("One MoE layer over {} ({} bytes), {} ranks as {} on {}\n", job.text.path, grouped(text_bytes),
             o.num_ranks, o.processes ? "processes" : "threads", o.backend == BackendKind::cpu ? "the CPU" : "GPUs");
  fmt::print("  tokens  {} = {}, one a byte{}\n", fmt::join(tokens, " + "), grouped(job.num_tokens()),
             job.num_tokens() == text_bytes  ? ""
             : job.num_tokens() > text_bytes ? "; the text repeats"
                                             : ", from its beginning");
  fmt::print("  layer   hidden {}, {} experts ({} a rank), top {}, expert MLP {} > {} > {}, seed {}\n", c.hidden,
             c.num_experts, s.experts_per_rank(), c.top_k, c.hidden, o.inter, c.hidden, o.seed);
  fmt::print("  router  {}\n", router_text(job));
  fmt::print("  rows    {} out, {} home, wire {}, {}, {}\n", name_of(c.dispatch_dtype), name_of(c.combine_dtype),
             name_of(c.combine_quant), name_of(c.layout), c.zero_copy ? "zero_copy" : "staged");
  fmt::print("  memory  {} a rank for the exchange\n\n", bytes_text(static_cast<double>(s.memory_bytes)));
}

/// A row of the matrix of who sent how many rows to whom, and its sum.
void print_rows(const std::string& name, const std::vector<std::int64_t>& rows) {
  std::int64_t sum = 0;
  fmt::print("  {:<11}", name);
  for (const std::int64_t n : rows) fmt::print("{:>10}", grouped(n)), sum += n;
  fmt::print("{:>10}\n", grouped(sum));
}

void print_matrix(const LayerSummary& s) {
  fmt::print("Rows sent    ");
  for (int to = 0; to < s.job.num_ranks(); ++to) fmt::print("{:>10}", fmt::format("to {}", to));
  fmt::print("{:>10}\n", "sum");
  for (std::size_t from = 0; from < s.rows.size(); ++from) print_rows(fmt::format("from {}", from), s.rows[from]);
  print_rows("received", s.received);
  fmt::print("  {:.2f} rows a token (one for each rank that owns any of its experts), {} out and {} home\n",
             static_cast<double>(s.num_rows) / static_cast<double>(s.job.num_tokens()),
             bytes_text(static_cast<double>(s.dispatch.bytes)), bytes_text(static_cast<double>(s.combine.bytes)));
  const double mean = static_cast<double>(s.pairs) / s.job.options.config.num_experts;
  fmt::print("  hottest expert: {} on rank {}, {} of {} (token, expert) pairs, {:.1f} times the mean\n",
             s.hottest_expert, s.hottest_expert / s.experts_per_rank(), grouped(s.hottest_rows), grouped(s.pairs),
             s.pairs ? static_cast<double>(s.hottest_rows) / mean : 0.0);
  if (s.bad_ids) fmt::print("  {} ids of the trace name no expert; nothing was sent for them\n", grouped(s.bad_ids));
}

void print_times(const LayerSummary& s) {
  fmt::print("\nAll ranks       median of {:<3}     best      GB/s  of memcpy\n", s.job.options.repeat);
  const auto line = [](const char* name, const Rate& rate, const std::string& of_memcpy) {
    fmt::print("  {:<10} {:12.3f} ms {:9.3f} ms {:7.2f}{}\n", name, rate.median_s * 1e3, rate.best_s * 1e3,
               rate.bytes_per_s() * 1e-9, of_memcpy);
  };
  for (const auto& [name, rate] : {std::pair("dispatch", s.dispatch), {"combine", s.combine}})
    line(name, rate, fmt::format("    {:4.0f} %", 100 * rate.bytes_per_s() / s.copy.bytes_per_s()));
  line("memcpy", s.copy, "");
  fmt::print("  bytes: rows with scales, once for each (token, rank), the own rank's too\n\n");
}

void print_check(const LayerSummary& s) {
  const std::int64_t tokens = s.job.num_tokens();
  fmt::print("Check\n  dense layer without communication: {} of {} tokens equal bit for bit ({} values)\n",
             grouped(tokens - s.num_mismatches), grouped(tokens), grouped(tokens * s.job.options.config.hidden));
  fmt::print("  f64 layer: largest error {:.3g}, relative L2 error {:.3g} over {} tokens{}\n", s.distance.largest,
             s.distance.relative(), grouped(s.distance.num_tokens),
             s.distance_limit ? fmt::format("; roundings explain up to {:.3g}", *s.distance_limit) : "");
  fmt::print("  {}\n", complaint_of(s).empty() ? "OK" : "FAILED");
}

Json rate_json(const Rate& rate) {
  return {
      {"median_s", rate.median_s}, {"best_s", rate.best_s}, {"bytes", rate.bytes}, {"bytes_per_s", rate.bytes_per_s()}};
}

Json config_json(const LayerJob& job) {
  const LayerOptions& o = job.options;
  const Config& c = o.config;
  Json json = {{"ranks", o.num_ranks},
               {"processes", o.processes},
               {"backend", name_of(o.backend)},
               {"hidden", c.hidden},
               {"inter", o.inter},
               {"experts", c.num_experts},
               {"top_k", c.top_k},
               {"tokens", job.tokens},
               {"dispatch_dtype", name_of(c.dispatch_dtype)},
               {"combine_dtype", name_of(c.combine_dtype)},
               {"combine_quant", name_of(c.combine_quant)},
               {"layout", name_of(c.layout)},
               {"zero_copy", c.zero_copy},
               {"scale_bytes", c.scale_bytes},
               {"seed", o.seed},
               {"repeat", o.repeat}};
  job.trace ? json["trace"] = o.trace : json["router"] = kRouterNames[static_cast<int>(o.router.kind)];
  return json;
}

}  // namespace

LayerSummary::LayerSummary(const LayerJob& j, Shared& shared) : job(j) {
  const Config& c = job.options.config;
  const auto num_ranks = static_cast<std::size_t>(job.num_ranks());
  row_bytes = row_bytes_of(c.dispatch_dtype, c.hidden) + c.scale_bytes;
  wire_bytes = wire_row_bytes(c.combine_dtype, c.combine_quant, c.hidden);
  rows.assign(num_ranks, std::vector<std::int64_t>(num_ranks));
  std::int64_t copied = 0;
  for (std::size_t to = 0; to < num_ranks; ++to) {
    const RankReport& r = shared.reports[to];
    for (std::size_t from = 0; from < num_ranks; ++from) rows[from][to] = r.rows_from[from];
    received.push_back(r.num_rows);
    num_rows += r.num_rows;
    bad_ids += r.bad_ids;
    copied += r.copied_bytes;
    memory_bytes = std::max(memory_bytes, r.memory_bytes);
    digest = (digest ^ r.digest) * 0x100000001b3u;
    distance.add(r.distance);
    num_mismatches += r.num_mismatches;
    if (r.num_mismatches && mismatch_rank < 0) mismatch_rank = static_cast<int>(to), mismatch = r.first_mismatch;
  }
  for (int e = 0; e < c.num_experts; ++e) {
    const std::int64_t count = shared.expert_rows[static_cast<std::size_t>(e)];
    pairs += count;
    if (count > hottest_rows) hottest_rows = count, hottest_expert = e;
  }
  dispatch = rate_of(shared, Timed::dispatch, num_rows * row_bytes);
  combine = rate_of(shared, Timed::combine, num_rows * wire_bytes);
  copy = rate_of(shared, Timed::copy, copied);
  distance_limit = expected_distance(c);
}

std::string complaint_of(const LayerSummary& s) {
  const Mismatch& m = s.mismatch;
  if (s.num_mismatches > 0)
    return fmt::format(
        "the layer's result differs from the dense layer: rank {}, token {}, column {}: got {:.9g}, expected {:.9g}; "
        "{} tokens differ",
        s.mismatch_rank, m.token, m.column, m.got, m.expected, s.num_mismatches);
  if (!s.distance_limit || s.distance.relative() <= *s.distance_limit) return {};
  return fmt::format(
      "the layer's result is further from the f64 layer than roundings explain: relative L2 error {:.3g}, expected at "
      "most {:.3g}",
      s.distance.relative(), *s.distance_limit);
}

void print_text(const LayerSummary& summary) {
  print_head(summary);
  print_matrix(summary);
  print_times(summary);
  print_check(summary);
}

Json json_of(const LayerSummary& s) {
  Json json;
  json["config"] = config_json(s.job);
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
  json["check"] = {{"ok", complaint_of(s).empty()},
                   {"tokens", s.job.num_tokens()},
                   {"tokens_different", s.num_mismatches},
                   {"f64_tokens", s.distance.num_tokens},
                   {"f64_largest_error", s.distance.largest},
                   {"f64_relative_error", s.distance.relative()},
                   {"f64_relative_limit", s.distance_limit ? Json(*s.distance_limit) : Json()}};
  json["result_digest"] = fmt::format("{:016x}", s.digest);
  return json;
}

}  // namespace crossdock::tools
