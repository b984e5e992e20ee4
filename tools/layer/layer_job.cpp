// SPDX-License-Identifier: Apache-2.0
// What is settled before the ranks of `crossdock run` start.
#include "layer/layer_job.hpp"

#include <algorithm>
#include <numeric>

#include "command/failures.hpp"
#include "command/flags.hpp"
#include "machine/pages.hpp"
#include "problem/rows.hpp"

namespace crossdock::tools {
namespace {

constexpr int kTokensByDefault = 512;
constexpr std::size_t kMaxText = std::size_t{64} << 20;

/// T of each rank when flags and text decide.
std::vector<int> tokens_of(const LayerOptions& o, std::int64_t text_bytes) {
  std::vector<int> tokens(static_cast<std::size_t>(o.num_ranks), o.tokens);
  if (o.tokens > 0) return tokens;
  const std::int64_t each = std::min<std::int64_t>(kTokensByDefault, (text_bytes + o.num_ranks - 1) / o.num_ranks);
  for (int r = 0; r < o.num_ranks; ++r)
    tokens[static_cast<std::size_t>(r)] = static_cast<int>(std::clamp<std::int64_t>(text_bytes - r * each, 0, each));
  return tokens;
}

/// Refuses what cannot fit, before the system starts to swap or to kill.
void require_memory(const LayerJob& job) {
  const Config& c = job.options.config;
  Config bounded = c;
  if (c.layout != Layout::token_major)  // run_rank() fits the capacity to the routing; one row per pair is near enough
    bounded.expert_capacity = std::max<std::int64_t>(
        1, c.layout == Layout::contiguous ? job.num_tokens() * c.top_k / job.num_ranks() : c.max_tokens_per_rank);
  const double hidden = c.hidden, experts = c.num_experts, inter = job.options.inter;
  const double exchange = static_cast<double>(memory_of(bounded, job.num_ranks()).total_bytes) * job.num_ranks();
  const double rows =
      static_cast<double>(job.num_tokens()) *
      static_cast<double>(row_bytes_of(c.dispatch_dtype, c.hidden) + 4 * row_bytes_of(c.combine_dtype, c.hidden));
  const double model = 4 * (hidden * (256 + experts) + 3 * hidden * inter + 3 * 592 * experts);
  const double needed = exchange + rows + model, available = static_cast<double>(memory_of_machine("MemAvailable:"));
  if (available > 0 && needed > available)
    throw BadInput(
        "this job needs about {}, of which the exchanges of all ranks {}; the machine has {} to give. Lower --tokens, "
        "--hidden or --ranks (see `crossdock mem`)",
        bytes_text(needed), bytes_text(exchange), bytes_text(available));
}

/// The shape of the trace stands; flags that say otherwise are refused.
void follow(const Trace& trace, LayerOptions& o) {
  const auto set = [&](const char* flag, bool given, int& value, int recorded) {
    if (given) require_recorded(flag, value, o.trace, recorded);
    value = recorded;
  };
  set("--ranks", o.ranks_given, o.num_ranks, trace.num_ranks());
  set("--experts", o.experts_given, o.config.num_experts, trace.num_experts);
  set("--topk", o.top_k_given, o.config.top_k, trace.top_k);
  if (o.tokens) throw BadInput("--tokens {}: with --trace the trace has the tokens of each rank", o.tokens);
}

}  // namespace

std::int64_t LayerJob::first_token_of(int rank) const {
  return std::accumulate(tokens.begin(), tokens.begin() + rank, std::int64_t{0});
}

LayerJob prepare(LayerOptions options) {
  LayerJob job;
  if (!options.record.empty()) require_writable_trace(options.record);
  if (!options.trace.empty()) {
    job.trace = read_trace(options.trace);
    follow(*job.trace, options);
  } else {
    options.router.top_k = options.config.top_k;
    options.router = checked_router(options.router, options.config.num_experts);
  }
  if (options.text.empty()) options.text = default_text_path();
  job.text = read_text(options.text, options.binary, kMaxText);
  job.tokens = job.trace ? job.trace->tokens : tokens_of(options, static_cast<std::int64_t>(job.text.bytes.size()));
  options.config.max_tokens_per_rank = std::max(1, *std::max_element(job.tokens.begin(), job.tokens.end()));
  options.config.scale_bytes = scale_bytes_of(options.config.dispatch_dtype, options.config.hidden);
  options.config.max_kept_plans = 0;
  require_support(options.config, options.num_ranks);
  job.model = {options.config.hidden, options.inter, options.config.num_experts, options.seed};
  job.options = std::move(options);
  require_memory(job);
  return job;
}

Shared::Shared(const LayerJob& job)
    : barrier(1),
      reports(static_cast<std::size_t>(job.num_ranks())),
      ids(static_cast<std::size_t>(job.num_tokens() * job.options.config.top_k)),
      weights(ids.all().size()),
      expert_rows(static_cast<std::size_t>(job.options.config.num_experts)),
      times(static_cast<std::size_t>(Timed::kCount) * job.options.repeat * job.num_ranks()),
      num_ranks(job.num_ranks()),
      repeat(job.options.repeat) {}

std::span<Span> Shared::of_ranks(Timed what, int iteration) {
  const auto n = static_cast<std::size_t>(num_ranks);
  return times.all().subspan((static_cast<std::size_t>(what) * repeat + iteration) * n, n);
}

}  // namespace crossdock::tools
