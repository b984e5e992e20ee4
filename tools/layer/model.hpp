// SPDX-License-Identifier: Apache-2.0
// A small MoE layer's parameters, all from one seed: an embedding of bytes, a gate, and SwiGLU experts.
//
// Memory stays bounded at any number of experts: the matrices of expert e are a window, shifted by e, of one shared pool
// of random numbers, so each expert is another function and all of them together take little more than one.
#pragma once

#include <cstdint>
#include <vector>

namespace crossdock::tools {

struct ModelShape {
  int hidden = 0;
  int inter = 0;  ///< inner width of an expert
  int num_experts = 0;
  std::uint64_t seed = 0;
};

/// A matrix for out[i] = sum over j of x[j] * m(j, i), stored as panels of kPanel outputs: panel, input, output.
struct Matrix {
  static constexpr int kPanel = 16;
  const float* data;
  int inputs, outputs;

  static std::int64_t padded(int outputs) { return (std::int64_t{outputs} + kPanel - 1) / kPanel * kPanel; }
  static std::int64_t size(int inputs, int outputs) { return std::int64_t{inputs} * padded(outputs); }
};

/// out = x * m, of float or double. Sums run over j upwards from +0; each product and each sum is rounded by itself.
template <class T>
void multiply(const Matrix& m, const T* x, T* out);

class Model {
 public:
  explicit Model(const ModelShape& shape);

  const ModelShape& shape() const { return shape_; }

  /// Hidden state of byte `byte` at position `position` of the text.
  void embed(unsigned char byte, std::int64_t position, float* out) const;

  Matrix gate() const { return {gate_.data(), shape_.hidden, shape_.num_experts}; }
  /// Of the choice, not of the weight.
  float bias(int expert) const { return bias_[static_cast<std::size_t>(expert)]; }

  /// Output of expert `expert` for a row of float or double: (silu(x * Wg) . (x * Wu)) * Wd.
  template <class T>
  void run_expert(int expert, const T* x, T* out) const;

 private:
  Matrix window(const std::vector<float>& pool, int expert, int inputs, int outputs) const;

  ModelShape shape_;
  std::vector<float> embedding_, gate_, bias_;
  std::vector<float> gate_pool_, up_pool_, down_pool_;
};

}  // namespace crossdock::tools
