// SPDX-License-Identifier: Apache-2.0
// A group from the caller's own all-gather: whatever a program already has for its ranks (MPI, torch.distributed, a
// key-value store) is enough. It is used while groups and exchanges are created, never in dispatch or combine. With MPI:
//   [&](const void* mine, std::size_t bytes, void* all) {
//     MPI_Allgather(mine, bytes, MPI_BYTE, all, bytes, MPI_BYTE, comm);
//   }
// Here three threads and a barrier stand in for it.
#include <barrier>
#include <crossdock/crossdock.hpp>
#include <cstdio>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

using namespace crossdock;

namespace {

constexpr int kRanks = 3, kHidden = 8;

class Meeting {
 public:
  void all_gather(int rank, const void* mine, std::size_t bytes, void* all) {
    if (rank == 0) gathered_.resize(bytes * kRanks);
    everyone_.arrive_and_wait();
    std::memcpy(gathered_.data() + bytes * rank, mine, bytes);
    everyone_.arrive_and_wait();
    std::memcpy(all, gathered_.data(), bytes * kRanks);
    everyone_.arrive_and_wait();  // nobody resizes before all have copied
  }

 private:
  std::barrier<> everyone_{kRanks};
  std::vector<std::byte> gathered_;
};

/// Passes a token to the next rank and gets it back.
bool run_rank(Meeting& meeting, int rank) {
  const AllGather all_gather = [&meeting, rank](const void* mine, std::size_t bytes, void* all) {
    meeting.all_gather(rank, mine, bytes, all);
  };
  Group group = Group::join(rank, kRanks, all_gather, {.backend = BackendKind::cpu});
  Exchange exchange(group, {.hidden = kHidden,
                            .num_experts = kRanks,
                            .top_k = 1,
                            .max_tokens_per_rank = 1,
                            .dispatch_dtype = Dtype::f32,
                            .combine_dtype = Dtype::f32});

  alignas(16) float token[kHidden], result[kHidden] = {};
  for (float& element : token) element = static_cast<float>(rank + 1);
  const std::int32_t next = (rank + 1) % kRanks;  // as many experts as ranks: expert e lives on rank e
  Received received = exchange.dispatch({.tokens = token, .topk_ids = &next, .num_tokens = 1});
  const RowSource from = received.tokens().sources[0];
  const void* rows = received.tokens().rows;
  exchange.combine(std::move(received), {.rows = rows}, {.rows = result});

  const bool right = exchange.poll().code == StatusCode::ok && from.rank == (rank + kRanks - 1) % kRanks &&
                     std::memcmp(token, result, sizeof token) == 0;
  std::printf("rank %d: a token came from rank %d, mine went to rank %d and back: %s\n", rank, from.rank, next,
              right ? "right" : "WRONG");
  return right;
}

}  // namespace

int main() {
  Meeting meeting;
  bool right[kRanks] = {};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        right[rank] = run_rank(meeting, rank);
      } catch (const Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        std::_Exit(1);  // the barrier of this example has no deadline
      }
    });
  for (std::thread& thread : threads) thread.join();
  return right[0] && right[1] && right[2] ? 0 : 1;
}
