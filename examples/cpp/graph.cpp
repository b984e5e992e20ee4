// SPDX-License-Identifier: Apache-2.0
// dispatch, an expert step and combine recorded once and replayed for other batches: other tokens, other routes, another
// number of tokens, which the kernels read from memory when they run. CpuGraph is the CPU counterpart of a CUDA graph.
#include <crossdock/crossdock.hpp>
#include <cstdio>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

using namespace crossdock;

namespace {

constexpr int kRanks = 2, kHidden = 8, kExperts = 4, kTopk = 2, kMaxTokens = 4;

/// What the graph reads and writes; it keeps these addresses.
struct Batch {
  std::int32_t num_tokens = 0;
  std::vector<float> tokens = std::vector<float>(kMaxTokens * kHidden);
  std::vector<float> results = std::vector<float>(kMaxTokens * kHidden);
  std::vector<std::int32_t> ids = std::vector<std::int32_t>(kMaxTokens * kTopk);

  void fill(int rank, int step) {
    num_tokens = (rank + step) % (kMaxTokens + 1);  // ranks differ; 0 is legal
    for (int i = 0; i < kMaxTokens * kHidden; ++i) tokens[i] = static_cast<float>(100 * step + 10 * rank + i);
    for (int i = 0; i < kMaxTokens * kTopk; ++i) ids[i] = (i * (step + 1) + rank) % kExperts;
  }

  /// Every rank doubles its rows, so a token comes back twice for each rank that it named.
  bool right() const {
    for (int i = 0; i < num_tokens * kHidden; ++i) {
      const std::int32_t* named = &ids[i / kHidden * kTopk];
      const int distinct_ranks = named[0] / (kExperts / kRanks) == named[1] / (kExperts / kRanks) ? 1 : 2;
      if (results[i] != 2.0f * static_cast<float>(distinct_ranks) * tokens[i]) return false;
    }
    return true;
  }
};

CpuGraph record(CpuStream& stream, Exchange& exchange, Batch& batch) {
  const CallOptions options{.stream = stream.handle()};
  stream.begin_capture();
  Received received = exchange.dispatch(
      {.tokens = batch.tokens.data(), .topk_ids = batch.ids.data(), .num_tokens_on_device = &batch.num_tokens},
      options);
  auto* rows = static_cast<float*>(received.tokens().rows);
  const Counts* counts = received.counts();
  stream.enqueue([=] {
    for (int i = 0; i < counts->num_rows * kHidden; ++i) rows[i] *= 2.0f;
  });
  exchange.combine(std::move(received), {.rows = rows}, {.rows = batch.results.data()}, options);
  return stream.end_capture();
}

bool run_rank(const ThreadTeam& team, int rank) {
  Group group = Group::join(team, rank, {.backend = BackendKind::cpu});
  Exchange exchange(group, {.hidden = kHidden,
                            .num_experts = kExperts,
                            .top_k = kTopk,
                            .max_tokens_per_rank = kMaxTokens,
                            .dispatch_dtype = Dtype::f32,
                            .combine_dtype = Dtype::f32});
  CpuStream stream;
  Batch batch;
  const CpuGraph graph = record(stream, exchange, batch);
  std::printf("rank %d: recorded %zu calls\n", rank, graph.num_calls());
  bool right = true;
  for (int step = 0; step < 20; ++step) {
    batch.fill(rank, step);
    stream.replay(graph);
    stream.synchronize();
    right = right && batch.right();
  }
  if (const Status status = exchange.poll(); status.code != StatusCode::ok) {
    std::fprintf(stderr, "%s\n", status.text.c_str());
    return false;
  }
  std::printf("rank %d: 20 replays, T from 0 to %d: %s\n", rank, kMaxTokens, right ? "right" : "WRONG");
  return right;
}

void run_thread(const ThreadTeam& team, int rank, bool& right) {
  try {
    right = run_rank(team, rank);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
  }
}

}  // namespace

int main() {
  ThreadTeam team(kRanks);
  bool right[kRanks] = {};
  std::thread other(run_thread, std::cref(team), 1, std::ref(right[1]));
  run_thread(team, 0, right[0]);
  other.join();
  return right[0] && right[1] ? 0 : 1;
}
