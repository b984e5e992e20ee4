// SPDX-License-Identifier: Apache-2.0
// The results of combine. Every product and every sum is rounded to f32 by itself; every sum starts at +0.
#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

#include "oracle/answer.hpp"
#include "oracle/number.hpp"

namespace crossdock::oracle {
namespace {

constexpr int kBlock = 128;

const std::uint8_t* row_at(const Case& c, std::span<const std::uint8_t> rows, std::int64_t index) {
  const std::int64_t bytes = row_bytes_of(c.combine_dtype, c.hidden);
  if (static_cast<std::int64_t>(rows.size()) < (index + 1) * bytes)
    throw std::invalid_argument("oracle: rows are too short");
  return rows.data() + index * bytes;
}

void add(std::vector<float>& sum, const std::vector<float>& values) {
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = sum[i] + values[i];
}

// The values that rank `owner` sends to the home rank for its token-major row `slot`, before quantisation.
std::vector<float> values_of_row(const Case& c, const RankAnswer& owner, const RankOutput& output, std::int64_t slot) {
  if (c.layout == Layout::token_major) return widen_row(c.combine_dtype, row_at(c, output.rows, slot), c.hidden);
  std::vector<float> sum(c.hidden, 0.0f);
  for (int j = 0; j < c.top_k; ++j) {
    const std::int64_t row = owner.experts.row_of_id[slot * c.top_k + j];
    if (row < 0) continue;
    const std::vector<float> values = widen_row(c.combine_dtype, row_at(c, output.rows, row), c.hidden);
    const float weight = owner.experts.weights[row];
    for (int i = 0; i < c.hidden; ++i) {
      const float product = weight * values[i];
      sum[i] = sum[i] + product;
    }
  }
  return sum;
}

// The second result: rows of k weights, in f32, summed over the ranks that did not drop the token.
std::vector<float> sum_weights(const Case& c, const std::vector<RankAnswer>& answers,
                               const std::vector<RankOutput>& outputs, const std::vector<Destination>& destinations) {
  std::vector<float> sum(c.top_k, 0.0f);
  for (const Destination& d : destinations) {
    if (d.slot < 0) continue;
    const bool given = !outputs.empty() && !outputs[d.rank].weights.empty();
    const float* row = (given ? outputs[d.rank].weights.data() : answers[d.rank].weights.data()) + d.slot * c.top_k;
    add(sum, std::vector<float>(row, row + c.top_k));
  }
  for (float& w : sum) w = round_to(Dtype::f32, w);  // makes NaNs canonical
  return sum;
}

}  // namespace

int block_exponent(std::span<const float> block) {
  double largest = 0.0;
  for (float v : block) {
    if (std::isfinite(v)) largest = std::max(largest, std::fabs(static_cast<double>(v)));
  }
  if (largest == 0.0) return 0;
  int e = -127;
  while (largest > std::ldexp(448.0, e)) ++e;
  return e;
}

std::vector<float> through_wire(CombineQuant combine_quant, Dtype dtype, const std::vector<float>& values) {
  std::vector<float> seen(values.size());
  if (combine_quant != CombineQuant::fp8_blockwise) {
    const Dtype type = combine_quant == CombineQuant::none ? dtype : Dtype::fp8_e4m3;
    std::transform(values.begin(), values.end(), seen.begin(), [&](float v) { return round_to(type, v); });
    return seen;
  }
  for (std::size_t first = 0; first < values.size(); first += kBlock) {
    const std::size_t count = std::min<std::size_t>(kBlock, values.size() - first);
    const int e = block_exponent({&values[first], count});
    for (std::size_t i = first; i < first + count; ++i) {
      // Scaling by a power of two is exact, except where it gives f32 subnormals; those are far below the least e4m3
      // value.
      const float scaled = static_cast<float>(std::ldexp(static_cast<double>(values[i]), -e));
      const float code_value = round_to(Dtype::fp8_e4m3, scaled);
      seen[i] = static_cast<float>(std::ldexp(static_cast<double>(code_value), e));
    }
  }
  return seen;
}

std::vector<RankResult> combine_answer(const Case& c, const std::vector<RankAnswer>& answers,
                                       const std::vector<RankOutput>& outputs) {
  if (outputs.size() != answers.size()) throw std::invalid_argument("oracle: one output per rank");
  const std::int64_t row_bytes = row_bytes_of(c.combine_dtype, c.hidden);
  std::vector<RankResult> results(answers.size());
  for (std::size_t home = 0; home < answers.size(); ++home) {
    RankResult& result = results[home];
    result.rows.resize(answers[home].num_tokens * row_bytes);
    for (int t = 0; t < answers[home].num_tokens; ++t) {
      const std::vector<Destination>& destinations = answers[home].destinations[t];
      std::vector<float> sum(c.hidden, 0.0f);
      for (const Destination& d : destinations) {
        if (d.slot < 0) continue;
        add(sum,
            through_wire(c.combine_quant, c.combine_dtype, values_of_row(c, answers[d.rank], outputs[d.rank], d.slot)));
      }
      narrow_row(c.combine_dtype, sum, result.rows.data() + t * row_bytes);
      const std::vector<float> weights = sum_weights(c, answers, outputs, destinations);
      result.weights.insert(result.weights.end(), weights.begin(), weights.end());
    }
  }
  return results;
}

std::vector<RankResult> fused_answer(const Case& c, const std::vector<RankAnswer>& answers,
                                     const std::vector<std::span<const std::uint8_t>>& landings, int num_tokens) {
  if (landings.size() != answers.size()) throw std::invalid_argument("oracle: combine slots of every rank");
  const std::int64_t row_bytes = row_bytes_of(c.combine_dtype, c.hidden);
  std::vector<RankResult> results(answers.size());
  for (std::size_t home = 0; home < answers.size(); ++home) {
    const int tokens = num_tokens < 0 ? answers[home].num_tokens : num_tokens;
    results[home].rows.resize(tokens * row_bytes);
    for (int t = 0; t < tokens; ++t) {
      const bool planned = t < answers[home].num_tokens;
      const std::uint64_t kept_ids = planned ? answers[home].kept_ids[t] : 0;
      std::vector<float> sum(c.hidden, 0.0f);
      for (int j = 0; j < c.top_k; ++j) {
        if ((kept_ids >> j & 1) == 0) continue;
        add(sum, widen_row(c.combine_dtype, row_at(c, landings[home], std::int64_t{t} * c.top_k + j), c.hidden));
      }
      narrow_row(c.combine_dtype, sum, results[home].rows.data() + t * row_bytes);
      const std::vector<Destination> none;
      const std::vector<float> weights = sum_weights(c, answers, {}, planned ? answers[home].destinations[t] : none);
      results[home].weights.insert(results[home].weights.end(), weights.begin(), weights.end());
    }
  }
  return results;
}

}  // namespace crossdock::oracle
