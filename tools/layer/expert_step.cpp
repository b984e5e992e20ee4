// SPDX-License-Identifier: Apache-2.0
#include "layer/expert_step.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "problem/rows.hpp"

namespace crossdock::tools {
namespace {

/// Received row `n` as floats.
void unpack_row(const Config& config, const void* rows, const void* scales, std::int64_t n, std::vector<float>& out) {
  unpack(config.dispatch_dtype,
         static_cast<const std::byte*>(rows) + n * row_bytes_of(config.dispatch_dtype, config.hidden),
         static_cast<const std::byte*>(scales) + n * config.scale_bytes, config.hidden, out.data());
}

}  // namespace

void run_experts(const Model& model, const Config& config, const TokenRows& rows, std::int64_t num_rows,
                 std::byte* out) {
  std::vector<float> x(static_cast<std::size_t>(config.hidden)), y(x.size()), sums(x.size());
  for (std::int64_t n = 0; n < num_rows; ++n) {
    unpack_row(config, rows.rows, rows.scales, n, x);
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (std::int64_t id = n * config.top_k; id < (n + 1) * config.top_k; ++id) {
      const std::int32_t local = rows.topk_ids[id] - rows.first_expert;
      if (local < 0 || local >= rows.num_local_experts) continue;
      model.run_expert(rows.topk_ids[id], x.data(), y.data());
      for (std::size_t c = 0; c < sums.size(); ++c) {
        const float product = rows.topk_weights[id] * y[c];
        sums[c] = sums[c] + product;
      }
    }
    narrow(config.combine_dtype, sums.data(), config.hidden,
           out + n * row_bytes_of(config.combine_dtype, config.hidden));
  }
}

void run_experts(const Model& model, const Config& config, const ExpertRows& rows, std::span<const std::int32_t> counts,
                 int first_expert, std::byte* out) {
  std::vector<float> x(static_cast<std::size_t>(config.hidden)), y(x.size());
  for (std::size_t local = 0; local < counts.size(); ++local)
    for (std::int64_t n = rows.offsets[local]; n < rows.offsets[local] + counts[local]; ++n) {
      unpack_row(config, rows.rows, rows.scales, n, x);
      model.run_expert(first_expert + static_cast<int>(local), x.data(), y.data());
      narrow(config.combine_dtype, y.data(), config.hidden,
             out + n * row_bytes_of(config.combine_dtype, config.hidden));
    }
}

std::int64_t fitted_expert_capacity(const Config& c, int num_ranks, std::span<const std::int32_t> ids) {
  std::vector<std::int64_t> rows(static_cast<std::size_t>(c.num_experts));
  for (std::size_t t = 0; t < ids.size(); t += static_cast<std::size_t>(c.top_k)) {
    const std::set<std::int32_t> distinct(&ids[t], &ids[t] + c.top_k);
    for (const std::int32_t id : distinct)
      if (id >= 0 && id < c.num_experts) ++rows[static_cast<std::size_t>(id)];
  }
  if (c.layout == Layout::expert_major) return std::max<std::int64_t>(1, *std::max_element(rows.begin(), rows.end()));
  const std::size_t per_rank = static_cast<std::size_t>((c.num_experts + num_ranks - 1) / num_ranks);
  std::int64_t most = 1;
  for (std::size_t first = 0; first < rows.size(); first += per_rank) {
    std::int64_t sum = 0;
    for (std::size_t e = first; e < std::min(first + per_rank, rows.size()); ++e)
      sum += (rows[e] + c.alignment - 1) / c.alignment * c.alignment;
    most = std::max(most, sum);
  }
  return most;
}

}  // namespace crossdock::tools
