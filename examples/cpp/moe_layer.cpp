// SPDX-License-Identifier: Apache-2.0
// A tiny MoE layer over four ranks: rows arrive grouped by expert, each expert is a matrix, outputs are written straight
// into the library's buffer (zero-copy), and combine applies the routing weights. Checked bit for bit against the same
// layer without any communication.
#include <crossdock/crossdock.hpp>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

using namespace crossdock;

namespace {

constexpr int kRanks = 4, kExperts = 8, kExpertsPerRank = kExperts / kRanks, kTopk = 3, kTokens = 5, kHidden = 16;

// Everything is a formula, so that any rank can know any token and any expert.
float element(int rank, int token, int i) {
  return static_cast<float>((rank * 31 + token * 7 + i * 3) % 17 - 8) / 8.0f;
}
float parameter(int expert, int row, int column) {
  return static_cast<float>((expert * 13 + row * 5 + column * 11) % 19 - 9) / 16.0f;
}
/// Id j of a token; ids may repeat.
std::int32_t expert_of(int rank, int token, int j) { return (rank + token * 3 + j * (token + 1)) % kExperts; }
float weight_of(int token, int j) { return 1.0f / static_cast<float>(2 + token + j); }

/// y = ReLU(A_e x)
void apply_expert(int expert, const float* x, float* y) {
  for (int row = 0; row < kHidden; ++row) {
    float sum = 0.0f;
    for (int column = 0; column < kHidden; ++column) sum += parameter(expert, row, column) * x[column];
    y[row] = sum > 0.0f ? sum : 0.0f;
  }
}

/// The layer for one token, without communication, in the order of sums that combine promises: on each rank over its
/// experts in the order of the ids (a repeated id once, its weights added), then over the ranks as the ids first name them.
void dense_token(int rank, int token, float* out) {
  float x[kHidden], sums[kRanks][kHidden] = {}, y[kHidden];
  std::vector<int> order;  // ranks as first named
  for (int i = 0; i < kHidden; ++i) x[i] = element(rank, token, i);
  for (int j = 0; j < kTopk; ++j) {
    const int expert = expert_of(rank, token, j), owner = expert / kExpertsPerRank;
    bool repeated = false, known = false;
    for (int i = 0; i < j; ++i) repeated = repeated || expert_of(rank, token, i) == expert;
    for (const int r : order) known = known || r == owner;
    if (!known) order.push_back(owner);
    if (repeated) continue;
    float weight = 0.0f;
    for (int i = j; i < kTopk; ++i)
      if (expert_of(rank, token, i) == expert) weight += weight_of(token, i);
    apply_expert(expert, x, y);
    for (int i = 0; i < kHidden; ++i) sums[owner][i] += weight * y[i];
  }
  std::memset(out, 0, kHidden * sizeof(float));
  for (const int r : order)
    for (int i = 0; i < kHidden; ++i) out[i] += sums[r][i];
}

bool run_rank(const ThreadTeam& team, int rank) {
  Group group = Group::join(team, rank, {.backend = BackendKind::cpu});
  Config config{.hidden = kHidden, .num_experts = kExperts, .top_k = kTopk, .max_tokens_per_rank = kTokens};
  config.dispatch_dtype = config.combine_dtype = Dtype::f32;
  config.layout = Layout::expert_major;
  config.zero_copy = true;
  Exchange exchange(group, config);

  std::vector<float> tokens, weights, results(kTokens * kHidden), expected(kTokens * kHidden);
  std::vector<std::int32_t> ids;
  for (int t = 0; t < kTokens; ++t) {
    for (int i = 0; i < kHidden; ++i) tokens.push_back(element(rank, t, i));
    for (int j = 0; j < kTopk; ++j) ids.push_back(expert_of(rank, t, j)), weights.push_back(weight_of(t, j));
    dense_token(rank, t, &expected[t * kHidden]);
  }

  Received received = exchange.dispatch(
      {.tokens = tokens.data(), .topk_ids = ids.data(), .topk_weights = weights.data(), .num_tokens = kTokens});

  // Expert x of this rank has counts[x] rows from offsets[x] on; output rows stand at the same places.
  const ExpertRows in = received.experts();
  const std::int32_t* counts = received.expert_counts();
  auto* out = static_cast<float*>(received.combine_buffer().data);
  for (int x = 0; x < received.tokens().num_local_experts; ++x)
    for (int row = in.offsets[x]; row < in.offsets[x] + counts[x]; ++row)
      apply_expert(received.tokens().first_expert + x, static_cast<const float*>(in.rows) + row * kHidden,
                   out + row * kHidden);
  std::printf("rank %d: %lld rows received, %d and %d for its two experts\n", rank,
              static_cast<long long>(received.counts()->num_rows), counts[0], counts[1]);

  exchange.combine(std::move(received), {.rows = out}, {.rows = results.data()});
  if (const Status status = exchange.poll(); status.code != StatusCode::ok) {
    std::fprintf(stderr, "%s\n", status.text.c_str());
    return false;
  }
  const bool right = std::memcmp(results.data(), expected.data(), results.size() * sizeof(float)) == 0;
  std::printf("rank %d: %s the dense layer, bit for bit\n", rank, right ? "equals" : "DIFFERS from");
  return right;
}

}  // namespace

int main() {
  ThreadTeam team(kRanks);
  bool right[kRanks] = {};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        right[rank] = run_rank(team, rank);
      } catch (const Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
      }
    });
  for (std::thread& thread : threads) thread.join();
  return right[0] && right[1] && right[2] && right[3] ? 0 : 1;
}
