// SPDX-License-Identifier: Apache-2.0
// Ranks as processes that share nothing but a name. Start one per rank, in any order, from any shell:
//   example_processes NAME RANK NUM_RANKS
// Without arguments it takes a random name and starts four such processes itself.
#include <sys/wait.h>
#include <unistd.h>

#include <crossdock/crossdock.hpp>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace crossdock;

namespace {

constexpr int kHidden = 16, kTokens = 3;

/// Token t of rank r goes to every rank; every rank returns it as it came; so the sum is num_ranks times the token.
bool run_rank(const std::string& name, int rank, int num_ranks) {
  Group group = Group::rendezvous(name, rank, num_ranks, {.backend = BackendKind::cpu});
  Exchange exchange(group, {.hidden = kHidden,
                            .num_experts = num_ranks,
                            .top_k = num_ranks,
                            .max_tokens_per_rank = kTokens,
                            .dispatch_dtype = Dtype::f32,
                            .combine_dtype = Dtype::f32});

  std::vector<float> tokens(kTokens * kHidden), results(kTokens * kHidden);
  std::vector<std::int64_t> ids(kTokens * num_ranks);  // as torch has them
  for (int i = 0; i < kTokens * kHidden; ++i) tokens[i] = static_cast<float>(1000 * rank + i);
  for (int i = 0; i < kTokens * num_ranks; ++i) ids[i] = i % num_ranks;

  Received received = exchange.dispatch(
      {.tokens = tokens.data(), .topk_ids = ids.data(), .topk_ids_are_int64 = true, .num_tokens = kTokens});
  const void* rows = received.tokens().rows;
  const RowSource last = received.tokens().sources[received.counts()->num_rows - 1];
  std::printf("rank %d (process %d): %lld rows, the last is token %d of rank %d\n", rank, static_cast<int>(getpid()),
              static_cast<long long>(received.counts()->num_rows), last.token, last.rank);
  exchange.combine(std::move(received), {.rows = rows}, {.rows = results.data()});

  if (const Status status = exchange.poll(); status.code != StatusCode::ok) {
    std::fprintf(stderr, "%s\n", status.text.c_str());
    return false;
  }
  bool right = last.rank == num_ranks - 1 && last.token == kTokens - 1;
  for (int i = 0; i < kTokens * kHidden; ++i) right = right && results[i] == tokens[i] * static_cast<float>(num_ranks);
  std::printf("rank %d: results are %s\n", rank, right ? "right" : "WRONG");
  return right;
}

int run_process(const std::string& name, int rank, int num_ranks) {
  try {
    return run_rank(name, rank, num_ranks) ? 0 : 1;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

/// Forks before anything of the library exists in this process: groups and exchanges do not survive a fork.
int start_all(int num_ranks) {
  const std::string name = "example-" + std::to_string(std::random_device{}());
  std::vector<pid_t> children;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const pid_t child = fork();
    if (child == 0) std::exit(run_process(name, rank, num_ranks));
    children.push_back(child);
  }
  bool right = true;
  for (const pid_t child : children) {
    int status = 0;
    right = child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0 && right;
  }
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 1) return start_all(4);
  if (argc == 4) return run_process(argv[1], std::atoi(argv[2]), std::atoi(argv[3]));
  std::fprintf(stderr, "usage: %s [NAME RANK NUM_RANKS]\n", argv[0]);
  return 2;
}
