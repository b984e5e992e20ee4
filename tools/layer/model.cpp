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
constexpr int kRowsAtOnce = 2;               // as many sums as fit the registers of any x86-64

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

/// One panel: out[r][i] = sum over j of x[r][j] * panel[j][i].
template <class T, int kRows>
void multiply_panel(const float* panel, const T* const* x, int inputs, T (*out)[Matrix::kPanel]) {
  using L = Lanes<T>;
  typename L::Vector sums[kRows][L::kPerPanel] = {};
  for (int j = 0; j < inputs; ++j, panel += Matrix::kPanel) {
#pragma GCC unroll 8
    for (int n = 0; n < L::kPerPanel; ++n) {
      const typename L::Vector weights = L::load(panel + n * L::kCount);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) sums[r][n] = sums[r][n] + x[r][j] * weights;
    }
  }
  for (int r = 0; r < kRows; ++r) std::memcpy(out[r], sums[r], sizeof sums[r]);
}

template <class T>
void multiply_rows(const Matrix& m, const T* x, int num_rows, T* out) {
  T sums[kRowsAtOnce][Matrix::kPanel];
  for (int first = 0; first < num_rows; first += kRowsAtOnce) {
    const int rows = std::min(kRowsAtOnce, num_rows - first);
    const T* row[kRowsAtOnce];
    for (int r = 0; r < kRowsAtOnce; ++r)
      row[r] = x + static_cast<std::int64_t>(first + std::min(r, rows - 1)) * m.inputs;
    for (int begin = 0; begin < m.outputs; begin += Matrix::kPanel) {
      const float* panel = m.data + static_cast<std::int64_t>(begin) * m.inputs;
      if (rows == 1)
        multiply_panel<T, 1>(panel, row, m.inputs, sums);
      else
        multiply_panel<T, kRowsAtOnce>(panel, row, m.inputs, sums);
      const int count = std::min(Matrix::kPanel, m.outputs - begin);
      for (int r = 0; r < rows; ++r)
        std::copy_n(sums[r], count, out + static_cast<std::int64_t>(first + r) * m.outputs + begin);
    }
  }
}

}  // namespace

void multiply(const Matrix& m, const float* x, int num_rows, float* out) { multiply_rows(m, x, num_rows, out); }
void multiply(const Matrix& m, const double* x, int num_rows, double* out) { multiply_rows(m, x, num_rows, out); }

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
void Model::run_expert(int expert, const T* x, int num_rows, T* out) const {
  const int hidden = shape_.hidden, inter = shape_.inter;
  std::vector<T> gate(static_cast<std::size_t>(num_rows) * inter), up(gate.size());
  multiply(window(gate_pool_, expert, hidden, inter), x, num_rows, gate.data());
  multiply(window(up_pool_, expert, hidden, inter), x, num_rows, up.data());
  for (std::size_t i = 0; i < gate.size(); ++i) {
    const T silu = gate[i] / (T{1} + std::exp(-gate[i]));
    gate[i] = silu * up[i];
  }
  multiply(window(down_pool_, expert, inter, hidden), gate.data(), num_rows, out);
}

template void Model::run_expert(int, const float*, int, float*) const;
template void Model::run_expert(int, const double*, int, double*) const;

}  // namespace crossdock::tools
