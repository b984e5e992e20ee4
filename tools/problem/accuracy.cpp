// SPDX-License-Identifier: Apache-2.0
#include "problem/accuracy.hpp"

#include <algorithm>
#include <cmath>

#include "oracle/number.hpp"

namespace crossdock::tools {
namespace {

/// Tokens of a rank that are looked at, spread evenly: some hundred thousand values, which an error of this kind needs no more of.
constexpr int kSample = 32;

/// Calls add(row, weight) with each expert output that combine sums for a token; rows by expert are weighted there.
template <class Add>
void for_each_output(const Data& data, int home, int token, Add add) {
  const oracle::Case& c = data.problem.shape;
  const RowSource source{home, token, 0, 0};
  if (data.problem.path == Path::fused) {
    for (int j = 0; j < c.top_k; ++j)
      if (data.answers[home].kept_ids[token] >> j & 1) add(data.combine_slot(home, token, j), 1.0f);
    return;
  }
  for (const oracle::Destination& to : data.answers[home].destinations[token]) {
    if (to.slot < 0) continue;
    if (c.layout == Layout::token_major) {
      add(data.output_row(to.rank, source, -1), 1.0f);
      continue;
    }
    const oracle::RankAnswer& owner = data.answers[to.rank];
    for (std::int64_t i = to.slot * c.top_k; i < (to.slot + 1) * c.top_k; ++i)
      if (const std::int64_t row = owner.experts.row_of_id[i]; row >= 0)
        add(data.output_row(to.rank, source, owner.ids[i]), owner.experts.weights[row]);
  }
}

}  // namespace

double relative_error(const Data& data, const std::vector<oracle::RankResult>& results) {
  const oracle::Case& c = data.problem.shape;
  const std::int64_t bytes = data.outputs.row_bytes();
  double error = 0, whole = 0;
  for (int home = 0; home < c.num_ranks; ++home) {
    const int tokens = data.answers[home].num_tokens, sample = std::min(tokens, kSample);
    for (int i = 0; i < sample; ++i) {
      const int token = static_cast<int>(std::int64_t{tokens} * i / sample);
      std::vector<double> exact(c.hidden);
      for_each_output(data, home, token, [&](const std::byte* row, double weight) {
        const auto* codes = reinterpret_cast<const std::uint8_t*>(row);
        for (int h = 0; h < c.hidden; ++h)
          exact[h] += weight * oracle::decode(c.combine_dtype, oracle::read_code(c.combine_dtype, codes, h));
      });
      const std::uint8_t* is = results[home].rows.data() + token * bytes;
      for (int h = 0; h < c.hidden; ++h) {
        const double off = oracle::decode(c.combine_dtype, oracle::read_code(c.combine_dtype, is, h)) - exact[h];
        error += off * off;
        whole += exact[h] * exact[h];
      }
    }
  }
  return whole > 0 ? std::sqrt(error / whole) : 0;
}

}  // namespace crossdock::tools
