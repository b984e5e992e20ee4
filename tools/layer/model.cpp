// SPDX-License-Identifier: Apache-2.0
#include "layer/model.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "oracle/random.hpp"

namespace crossdock::tools {
namespace {

enum Stream : std::uint64_t { kEmbedding = 1, kPosition, kGate, kBias, kGatePool, kUpPool, kDownPool };

constexpr int kShift = 37 * Matrix::kPanel;  // floats between the windows of neighbouring experts

/// Uniform with mean 0 and the given deviation.
float uniform(std::uint64_t word, float deviation) {
  const auto steps = static_cast<float>(static_cast<std::int32_t>(oracle::splitmix(word) >> 40) - (1 << 23));
  return steps * (1.7320508f / (1 << 23)) * deviation;
}

std::vector<float> pool_of(std::uint64_t seed, Stream stream, std::int64_t size, float deviation) {
  std::vector<float> pool(static_cast<std::size_t>(size));
  const std::uint64_t base = oracle::hash_of({seed, stream});
  for (std::size_t i = 0; i < pool.size(); ++i) pool[i] = uniform(base + i, deviation);
  return pool;
}

/// Four values in one register of any machine of today, or two of f64. (Loops over plain arrays spill their sums.)
template <class T>
struct Lanes {
  static constexpr int kCount = 16 / sizeof(T), kPerPanel = Matrix::kPanel / kCount;
  using Vector [[gnu::vector_size(16)]] = T;
  static Vector load(const float* from) {
    Vector v{};
    for (int i = 0; i < kCount; ++i) v[i] = static_cast<T>(from[i]);
    return v;
  }
};

}  // namespace

template <class T>
void multiply(const Matrix& m, const T* x, T* out) {
  using L = Lanes<T>;
  const float* weights = m.data;
  for (int begin = 0; begin < m.outputs; begin += Matrix::kPanel) {
    typename L::Vector sums[L::kPerPanel] = {};
    for (int j = 0; j < m.inputs; ++j, weights += Matrix::kPanel) {
#pragma GCC unroll 8
      for (int n = 0; n < L::kPerPanel; ++n) sums[n] = sums[n] + x[j] * L::load(weights + n * L::kCount);
    }
    std::memcpy(out + begin, sums, sizeof(T) * static_cast<std::size_t>(std::min(Matrix::kPanel, m.outputs - begin)));
  }
}
template void multiply(const Matrix&, const float*, float*);
template void multiply(const Matrix&, const double*, double*);

Model::Model(const ModelShape& shape) : shape_(shape) {
  const auto [hidden, inter, num_experts, seed] = shape;
  const std::int64_t shifts = std::int64_t{num_experts} * kShift;
  const float wide = 1.0f / std::sqrt(static_cast<float>(hidden)), narrow = 1.0f / std::sqrt(static_cast<float>(inter));
  embedding_ = pool_of(seed, kEmbedding, std::int64_t{256} * hidden, 1.0f);
  gate_ = pool_of(seed, kGate, Matrix::size(hidden, num_experts), 1.5f * wide);
  bias_ = pool_of(seed, kBias, num_experts, 0.02f);
  gate_pool_ = pool_of(seed, kGatePool, Matrix::size(hidden, inter) + shifts, wide);
  up_pool_ = pool_of(seed, kUpPool, Matrix::size(hidden, inter) + shifts, wide);
  down_pool_ = pool_of(seed, kDownPool, Matrix::size(inter, hidden) + shifts, 2.0f * narrow);
}

void Model::embed(unsigned char byte, std::int64_t position, float* out) const {
  const float* letter = embedding_.data() + static_cast<std::int64_t>(byte) * shape_.hidden;
  const std::uint64_t place = oracle::hash_of({shape_.seed, kPosition, static_cast<std::uint64_t>(position)});
  for (int c = 0; c < shape_.hidden; ++c) out[c] = letter[c] + uniform(place + static_cast<std::uint64_t>(c), 0.5f);
}

Matrix Model::window(const std::vector<float>& pool, int expert, int inputs, int outputs) const {
  return {pool.data() + static_cast<std::int64_t>(expert) * kShift, inputs, outputs};
}

template <class T>
void Model::run_expert(int expert, const T* x, T* out) const {
  const int hidden = shape_.hidden, inter = shape_.inter;
  std::vector<T> gate(static_cast<std::size_t>(inter)), up(gate.size());
  multiply(window(gate_pool_, expert, hidden, inter), x, gate.data());
  multiply(window(up_pool_, expert, hidden, inter), x, up.data());
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const T silu = gate[i] / (T{1} + std::exp(-gate[i]));
    gate[i] = silu * up[i];
  }
  multiply(window(down_pool_, expert, inter, hidden), gate.data(), out);
}

template void Model::run_expert(int, const float*, float*) const;
template void Model::run_expert(int, const double*, double*) const;

}  // namespace crossdock::tools
