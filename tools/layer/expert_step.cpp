// SPDX-License-Identifier: Apache-2.0
#include "layer/expert_step.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "problem/rows.hpp"

namespace crossdock::tools {
namespace {

constexpr std::int64_t kChunk = 64;  // rows in work at once; bounds memory, and still gives an expert several rows

/// Received rows as floats.
void unpack_rows(const Config& config, const void* rows, const void* scales, std::int64_t begin, std::int64_t end,
                 float* out) {
  const std::int64_t row_bytes = row_bytes_of(config.dispatch_dtype, config.hidden);
  for (std::int64_t n = begin; n < end; ++n)
    unpack(config.dispatch_dtype, static_cast<const std::byte*>(rows) + n * row_bytes,
           static_cast<const std::byte*>(scales) + n * config.scale_bytes, config.hidden,
           out + (n - begin) * config.hidden);
}

}  // namespace

void ExpertStep::run(const TokenRows& rows, std::int64_t num_rows, std::byte* out) const {
  progress.begin(Step::experts, num_rows);
  for (std::int64_t begin = 0; begin < num_rows; begin += kChunk) {
    const std::int64_t end = std::min(begin + kChunk, num_rows);
    run_chunk(rows, begin, end, out);
    progress.advance(end - begin);
  }
}

void ExpertStep::run_chunk(const TokenRows& rows, std::int64_t begin, std::int64_t end, std::byte* out) const {
  struct Pair {
    std::int64_t row;  ///< of the chunk
    std::int64_t place;
    float weight;
  };
  const std::int64_t hidden = config.hidden, k = config.top_k;
  std::vector<float> x(static_cast<std::size_t>((end - begin) * hidden));
  unpack_rows(config, rows.rows, rows.scales, begin, end, x.data());

  std::vector<Pair> pairs;  // in the order of rows and ids
  std::vector<std::vector<std::int64_t>> of_expert(static_cast<std::size_t>(rows.num_local_experts));
  for (std::int64_t n = begin; n < end; ++n)
    for (std::int64_t j = 0; j < k; ++j) {
      const std::int32_t local = rows.topk_ids[n * k + j] - rows.first_expert;
      if (local < 0 || local >= rows.num_local_experts) continue;
      of_expert[static_cast<std::size_t>(local)].push_back(static_cast<std::int64_t>(pairs.size()));
      pairs.push_back({n - begin, 0, rows.topk_weights[n * k + j]});
    }

  std::vector<float> y(pairs.size() * static_cast<std::size_t>(hidden)), gathered;
  std::int64_t place = 0;
  for (std::size_t local = 0; local < of_expert.size(); ++local) {
    if (of_expert[local].empty()) continue;
    gathered.clear();
    const std::int64_t first = place;
    for (const std::int64_t pair : of_expert[local]) {
      const float* row = x.data() + pairs[static_cast<std::size_t>(pair)].row * hidden;
      gathered.insert(gathered.end(), row, row + hidden);
      pairs[static_cast<std::size_t>(pair)].place = place++;
    }
    model.run_expert(rows.first_expert + static_cast<int>(local), gathered.data(), static_cast<int>(place - first),
                     y.data() + first * hidden);
  }

  std::vector<float> sums(x.size(), 0.0f);
  for (const Pair& pair : pairs)
    for (std::int64_t c = 0; c < hidden; ++c) {
      const float product = pair.weight * y[static_cast<std::size_t>(pair.place * hidden + c)];
      sums[static_cast<std::size_t>(pair.row * hidden + c)] += product;
    }
  const std::int64_t row_bytes = row_bytes_of(config.combine_dtype, hidden);
  narrow(config.combine_dtype, sums.data(), (end - begin) * hidden, out + begin * row_bytes);
}

void ExpertStep::run(const ExpertRows& rows, const std::int32_t* counts, int first_expert, int num_local_experts,
                     std::byte* out) const {
  const std::int64_t hidden = config.hidden, row_bytes = row_bytes_of(config.combine_dtype, hidden);
  std::int64_t total = 0;
  for (int x = 0; x < num_local_experts; ++x) total += counts[x];
  progress.begin(Step::experts, total);
  std::vector<float> in(static_cast<std::size_t>(kChunk * hidden)), y(in.size());
  for (int expert = 0; expert < num_local_experts; ++expert) {
    const std::int64_t first = rows.offsets[expert], last = first + counts[expert];
    for (std::int64_t begin = first; begin < last; begin += kChunk) {
      const std::int64_t end = std::min(begin + kChunk, last);
      unpack_rows(config, rows.rows, rows.scales, begin, end, in.data());
      model.run_expert(first_expert + expert, in.data(), static_cast<int>(end - begin), y.data());
      narrow(config.combine_dtype, y.data(), (end - begin) * hidden, out + begin * row_bytes);
      progress.advance(end - begin);
    }
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
