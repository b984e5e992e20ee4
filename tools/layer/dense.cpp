// SPDX-License-Identifier: Apache-2.0
#include "layer/dense.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "oracle/answer.hpp"
#include "problem/rows.hpp"

namespace crossdock::tools {
namespace {

/// Half the spacing of the values of `dtype` just above 1: the most that rounding to nearest even takes away from there.
double half_spacing(Dtype dtype) {
  float half = 1;
  while (rounded(dtype, 1 + half) != 1) half /= 2;
  return half;
}

}  // namespace

DenseLayer::DenseLayer(const Model& model, const Config& config, int num_ranks)
    : model_(model), config_(config), experts_per_rank_((config.num_experts + num_ranks - 1) / num_ranks) {
  for (auto* values : {&input_, &output_, &partial_, &sum_}) values->resize(static_cast<std::size_t>(config.hidden));
  for (auto* values : {&input64_, &output64_}) values->resize(static_cast<std::size_t>(config.hidden));
}

/// What `rank` would send home for the token, added to the sum.
void DenseLayer::add_rank(const TokenInput& token, int rank) {
  const bool by_expert = config_.layout != Layout::token_major;
  std::fill(partial_.begin(), partial_.end(), 0.0f);
  for (int j = 0; j < config_.top_k; ++j) {
    const std::int32_t id = token.ids[j];
    if (!routed(id) || rank_of(id) != rank) continue;
    float weight = token.weights[j];
    if (by_expert) {  // one row per (token, expert): a repeated id has added its weight to the first
      if (std::find(token.ids, token.ids + j, id) != token.ids + j) continue;
      weight = 0;
      for (int i = j; i < config_.top_k; ++i)
        if (token.ids[i] == id) weight = weight + token.weights[i];
    }
    model_.run_expert(id, input_.data(), output_.data());
    for (std::size_t c = 0; c < partial_.size(); ++c) {
      const float value = by_expert ? rounded(config_.combine_dtype, output_[c]) : output_[c];
      const float product = weight * value;
      partial_[c] = partial_[c] + product;
    }
  }
  const bool own_wire = config_.combine_quant == CombineQuant::none;
  if (!by_expert || own_wire)
    for (float& value : partial_) value = rounded(config_.combine_dtype, value);
  if (!own_wire) partial_ = oracle::through_wire(config_.combine_quant, config_.combine_dtype, partial_);
  for (std::size_t c = 0; c < sum_.size(); ++c) sum_[c] = sum_[c] + partial_[c];
}

void DenseLayer::run(const TokenInput& token, std::byte* out) {
  unpack(config_.dispatch_dtype, token.row, token.scales, config_.hidden, input_.data());
  std::fill(sum_.begin(), sum_.end(), 0.0f);
  std::uint32_t added = 0;
  for (int j = 0; j < config_.top_k; ++j) {
    if (!routed(token.ids[j])) continue;
    const int rank = rank_of(token.ids[j]);
    if (added >> rank & 1) continue;
    added |= 1u << rank;
    add_rank(token, rank);
  }
  narrow(config_.combine_dtype, sum_.data(), config_.hidden, out);
}

void DenseLayer::run_f64(const float* x, const TokenInput& token, double* out) {
  std::copy_n(x, input64_.size(), input64_.begin());
  std::fill_n(out, input64_.size(), 0.0);
  for (int j = 0; j < config_.top_k; ++j) {
    if (!routed(token.ids[j])) continue;
    model_.run_expert(token.ids[j], input64_.data(), output64_.data());
    for (std::size_t c = 0; c < output64_.size(); ++c) out[c] += static_cast<double>(token.weights[j]) * output64_[c];
  }
}

std::optional<Mismatch> first_mismatch(Dtype dtype, std::int32_t hidden, std::int64_t token, const std::byte* got,
                                       const std::byte* expected) {
  const std::int64_t row_bytes = row_bytes_of(dtype, hidden);
  const auto [at, ignored] = std::mismatch(got, got + row_bytes, expected);
  if (at == got + row_bytes) return std::nullopt;
  std::vector<float> a(static_cast<std::size_t>(hidden)), b(a.size());
  widen(dtype, got, hidden, a.data());
  widen(dtype, expected, hidden, b.data());
  std::int64_t column = (at - got) * 8 / bits_of(dtype);
  if (bits_of(dtype) == 4 && (*at & std::byte{15}) == (expected[at - got] & std::byte{15})) ++column;
  return Mismatch{token, column, a[static_cast<std::size_t>(column)], b[static_cast<std::size_t>(column)]};
}

void Distance::add(const float* got, const double* exact, std::int32_t hidden) {
  ++num_tokens;
  for (std::int32_t c = 0; c < hidden; ++c) {
    const double error = static_cast<double>(got[c]) - exact[c];
    largest = std::max(largest, std::fabs(error));
    error_squares += error * error;
    exact_squares += exact[c] * exact[c];
  }
}

void Distance::add(const Distance& other) {
  num_tokens += other.num_tokens;
  largest = std::max(largest, other.largest);
  error_squares += other.error_squares;
  exact_squares += other.exact_squares;
}

double Distance::relative() const {
  return exact_squares > 0 ? std::sqrt(error_squares / exact_squares) : std::sqrt(error_squares);
}

std::optional<double> expected_distance(const Config& config) {
  const bool narrow_range = bits_of(config.combine_dtype) < 16 || config.combine_quant == CombineQuant::fp8_direct_cast;
  if (narrow_range) return std::nullopt;
  const double wire = config.combine_quant == CombineQuant::none ? 0.0 : half_spacing(Dtype::fp8_e4m3);
  const double sums = 1e-5;  // f32 sums over `hidden` products
  return 1.5 * (half_spacing(config.dispatch_dtype) + half_spacing(config.combine_dtype) + wire) + sums;
}

}  // namespace crossdock::tools
