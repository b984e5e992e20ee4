// SPDX-License-Identifier: Apache-2.0
// The same layer without any communication, for comparison: per token, in the order of sums and roundings that the
// contract gives to dispatch, expert step and combine; and once more in f64 without any rounding.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "crossdock/config.hpp"
#include "layer/model.hpp"

namespace crossdock::tools {

/// One token as its home rank knows it.
struct TokenInput {
  const std::byte* row;  ///< of dispatch_dtype
  const std::byte* scales;
  const std::int32_t* ids;  ///< [k]; ids outside [0, E) are not routed
  const float* weights;     ///< [k]
};

/// Result of the layer for one token, `hidden` values of combine_dtype.
class DenseLayer {
 public:
  DenseLayer(const Model& model, const Config& config, int num_ranks);
  void run(const TokenInput& token, std::byte* out);

  /// f64, from the unrounded hidden state `x`.
  void run_f64(const float* x, const TokenInput& token, double* out);

 private:
  int rank_of(std::int32_t id) const { return id / experts_per_rank_; }
  bool routed(std::int32_t id) const { return id >= 0 && id < config_.num_experts; }
  void add_rank(const TokenInput& token, int rank);

  const Model& model_;
  Config config_;
  int experts_per_rank_;
  std::vector<float> input_, output_, partial_, sum_;
  std::vector<double> input64_, output64_;
};

/// The first column in which two results differ.
struct Mismatch {
  std::int64_t token, column;
  float got, expected;
};

/// Compares rows of a dtype bit by bit.
std::optional<Mismatch> first_mismatch(Dtype dtype, std::int32_t hidden, std::int64_t token, const std::byte* got,
                                       const std::byte* expected);

/// How far results are from exact ones. Adds up over tokens and ranks.
struct Distance {
  std::int64_t num_tokens;
  double largest;  ///< |got - exact|
  double error_squares, exact_squares;

  void add(const float* got, const double* exact, std::int32_t hidden);
  void add(const Distance& other);
  double relative() const;  ///< L2 norm of the error over that of the exact values
};

/// What `relative()` stays below if roundings are all that is wrong, by the spacings of the types on the way. Nothing where
/// values travel in fp8 or fp4 without scales: what is out of their range is lost.
std::optional<double> expected_distance(const Config& config);

}  // namespace crossdock::tools
