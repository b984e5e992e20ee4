// SPDX-License-Identifier: Apache-2.0
// Two ranks as threads of this process. Each sends one token to both ranks, each rank multiplies what it received, and
// the results come home summed: the shortest whole use of the library. On the CPU, where any memory will do.
#include <crossdock/crossdock.hpp>
#include <cstdio>
#include <functional>
#include <thread>
#include <utility>

using namespace crossdock;

namespace {

constexpr int kHidden = 8;

bool run_rank(const ThreadTeam& team, int rank) {
  Group group = Group::join(team, rank, {.backend = BackendKind::cpu});
  Exchange exchange(group, {.hidden = kHidden,
                            .num_experts = 4,
                            .top_k = 2,
                            .max_tokens_per_rank = 1,
                            .dispatch_dtype = Dtype::f32,
                            .combine_dtype = Dtype::f32});

  alignas(16) float token[kHidden], result[kHidden];
  for (int i = 0; i < kHidden; ++i) token[i] = static_cast<float>(10 * (rank + 1) + i);
  const std::int32_t ids[] = {0, 2};  // expert 0 lives on rank 0, expert 2 on rank 1

  Received received = exchange.dispatch({.tokens = token, .topk_ids = ids, .num_tokens = 1});

  // The expert step: this rank has one row of each rank now, in its own memory. Rank r multiplies by r + 1.
  auto* rows = static_cast<float*>(received.tokens().rows);
  for (int i = 0; i < received.counts()->num_rows * kHidden; ++i) rows[i] *= static_cast<float>(rank + 1);

  exchange.combine(std::move(received), {.rows = rows}, {.rows = result});

  // Waits end, also where a peer is lost; poll() tells. Without this the result would be unspecified.
  if (const Status status = exchange.poll(); status.code != StatusCode::ok) {
    std::fprintf(stderr, "%s\n", status.text.c_str());
    return false;
  }
  bool right = true;
  for (int i = 0; i < kHidden; ++i)
    right = right && result[i] == 3 * token[i];  // 1 * token from rank 0, 2 * token from rank 1
  std::printf("rank %d: sent %g %g ..., got back %g %g ...: %s\n", rank, token[0], token[1], result[0], result[1],
              right ? "right" : "WRONG");
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
  ThreadTeam team(2);
  bool right[2] = {};
  std::thread other(run_thread, std::cref(team), 1, std::ref(right[1]));
  run_thread(team, 0, right[0]);
  other.join();
  return right[0] && right[1] ? 0 : 1;
}
