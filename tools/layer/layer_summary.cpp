// SPDX-License-Identifier: Apache-2.0
// From the ranks' reports to the figures that are shown.
#include <algorithm>

#include "layer/layer_report.hpp"

namespace crossdock::tools {
namespace {

std::int64_t rounded_up(std::int64_t n) { return (n + 15) / 16 * 16; }

/// Bytes of one combine row as it crosses the link.
std::int64_t wire_row_bytes(const Config& c) {
  if (c.combine_quant == CombineQuant::none) return row_bytes_of(c.combine_dtype, c.hidden);
  return rounded_up(c.hidden + (c.combine_quant == CombineQuant::fp8_blockwise ? (c.hidden + 127) / 128 : 0));
}

Rate rate_of(Shared& shared, Timed what, std::int64_t bytes) {
  std::vector<double> seconds;
  for (int i = 0; i < shared.repeat; ++i) {
    Span all = shared.time(what, i, 0);
    for (int r = 1; r < shared.num_ranks; ++r) {
      const Span& span = shared.time(what, i, r);
      all = {std::min(all.begin_ns, span.begin_ns), std::max(all.end_ns, span.end_ns)};
    }
    seconds.push_back(static_cast<double>(all.end_ns - all.begin_ns) * 1e-9);
  }
  std::sort(seconds.begin(), seconds.end());
  return {seconds[seconds.size() / 2], seconds.front(), bytes};
}

}  // namespace

LayerSummary::LayerSummary(const LayerJob& j, Shared& shared) : job(j) {
  const Config& c = job.options.config;
  const auto num_ranks = static_cast<std::size_t>(job.num_ranks());
  row_bytes = row_bytes_of(c.dispatch_dtype, c.hidden) + c.scale_bytes;
  wire_bytes = wire_row_bytes(c);
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
  char text[400];
  if (!s.equal()) {
    std::snprintf(
        text, sizeof text,
        "the layer's result differs from the dense layer: rank %d, token %lld, column %lld: got %.9g, expected %.9g; "
        "%lld tokens differ",
        s.mismatch_rank, static_cast<long long>(s.mismatch.token), static_cast<long long>(s.mismatch.column),
        static_cast<double>(s.mismatch.got), static_cast<double>(s.mismatch.expected),
        static_cast<long long>(s.num_mismatches));
    return text;
  }
  if (s.near()) return {};
  std::snprintf(text, sizeof text,
                "the layer's result is further from the f64 layer than roundings explain: relative L2 error %.3g, "
                "expected at most %.3g",
                s.distance.relative(), *s.distance_limit);
  return text;
}

}  // namespace crossdock::tools
