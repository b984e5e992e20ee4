// SPDX-License-Identifier: Apache-2.0
// A group from MPI: one all-gather is all that Crossdock asks of it, while groups and exchanges are created. dispatch and
// combine never call MPI. Built where MPI is found; run it with `mpirun -n 4 example_mpi`.
#include <mpi.h>

#include <crossdock/crossdock.hpp>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

using namespace crossdock;

namespace {

constexpr int kHidden = 8;

AllGather all_gather_of(MPI_Comm comm) {
  return [comm](const void* mine, std::size_t bytes, void* all) {
    const int count = static_cast<int>(bytes);  // some hundred bytes
    if (MPI_Allgather(mine, count, MPI_BYTE, all, count, MPI_BYTE, comm) != MPI_SUCCESS)
      throw SystemError("MPI_Allgather failed");
  };
}

/// Sends one token to each rank's expert and checks that the sum of what comes home is the token as often as there are ranks.
bool run_rank(int rank, int num_ranks, MPI_Comm node) {
  Group group = Group::join(rank, num_ranks, all_gather_of(node), {.backend = BackendKind::cpu});
  Exchange exchange(group, {.hidden = kHidden,
                            .num_experts = num_ranks,
                            .top_k = num_ranks,
                            .max_tokens_per_rank = 1,
                            .dispatch_dtype = Dtype::f32,
                            .combine_dtype = Dtype::f32});
  alignas(16) float token[kHidden], result[kHidden] = {};
  std::vector<std::int32_t> ids;
  for (int i = 0; i < kHidden; ++i) token[i] = static_cast<float>(rank * kHidden + i);
  for (int expert = 0; expert < num_ranks; ++expert) ids.push_back(expert);

  Received received = exchange.dispatch({.tokens = token, .topk_ids = ids.data(), .num_tokens = 1});
  const void* rows = received.tokens().rows;
  const bool all_came = received.counts()->num_rows == num_ranks;
  exchange.combine(std::move(received), {.rows = rows}, {.rows = result});

  bool right = all_came && exchange.poll().code == StatusCode::ok;
  for (int i = 0; i < kHidden; ++i) right = right && result[i] == static_cast<float>(num_ranks) * token[i];
  return right;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm node;  // a group lives on one host
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  int rank = 0, num_ranks = 0, right = 0, all_right = 0;
  MPI_Comm_rank(node, &rank);
  MPI_Comm_size(node, &num_ranks);
  try {
    right = run_rank(rank, num_ranks, node);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Allreduce(&right, &all_right, 1, MPI_INT, MPI_MIN, node);
  if (rank == 0) std::printf("%d ranks by MPI: %s\n", num_ranks, all_right ? "right" : "WRONG");
  MPI_Comm_free(&node);
  MPI_Finalize();
  return all_right ? 0 : 1;
}
