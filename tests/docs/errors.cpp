// SPDX-License-Identifier: Apache-2.0
// One error of every status that can be brought about on any machine, for docs/errors.md, which shows this output.
#include <chrono>
#include <crossdock/crossdock.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace crossdock;

namespace {

constexpr Config kConfig{.hidden = 16, .num_experts = 2, .top_k = 1, .max_tokens_per_rank = 8};
alignas(16) std::uint16_t rows[8 * 16], out[8 * 16];
const std::int32_t ids[8] = {};

template <class Call>
void show(const char* what, Call call) {
  try {
    call();
    std::printf("%s\n  no error\n", what);
  } catch (const Error& error) {
    std::printf("%s\n  [%s] %s\n", what, std::string(name_of(error.code())).c_str(), error.what());
  }
}

void usage(Exchange& exchange) {
  show("more tokens than max_tokens_per_rank",
       [&] { exchange.dispatch({.tokens = rows, .topk_ids = ids, .num_tokens = 9}); });
  const std::int32_t wrong[2] = {0, 77};
  exchange.dispatch({.tokens = rows, .topk_ids = wrong, .num_tokens = 2});
  show("the call after an id that is no expert", [&] { exchange.dispatch({}); });
  exchange.clear_status();
}

void config(const Group& group) {
  Config odd = kConfig;
  odd.hidden = 10;
  show("rows that are not a multiple of 16 bytes", [&] { Exchange(group, odd); });
  Config wide = kConfig;
  wide.combine_dtype = Dtype::f32;
  wide.combine_quant = CombineQuant::fp8_direct_cast;
  show("a combination that is not served", [&] { Exchange(group, wide); });
}

void state(Exchange& exchange) {
  Received received = exchange.dispatch({.tokens = rows, .topk_ids = ids, .num_tokens = 1});
  show("one Received more than max_in_flight",
       [&] { exchange.dispatch({.tokens = rows, .topk_ids = ids, .num_tokens = 1}); });
  exchange.combine(std::move(received), {.rows = rows}, {.rows = out});
  show("combine twice", [&] { exchange.combine(std::move(received), {.rows = rows}, {.rows = out}); });
}

void capacity(const Group& group) {
  Config small = kConfig;
  small.row_capacity = 3;
  small.overflow = Overflow::error;
  Exchange exchange(group, small);
  exchange.dispatch({.tokens = rows, .topk_ids = ids, .num_tokens = 8});
  show("the call after an overflow", [&] { exchange.dispatch({}); });
}

/// Rank 1 comes too late.
void peer_lost() {
  const ThreadTeam team(2);
  const auto run = [&team](int rank, auto late) {
    Group group = Group::join(team, rank, {.backend = BackendKind::cpu});
    Exchange exchange(group, kConfig);
    group.set_deadline(std::chrono::milliseconds(200));
    std::this_thread::sleep_for(late);
    exchange.dispatch({.tokens = rows, .topk_ids = ids, .num_tokens = 1});
    if (rank == 0) show("a call after a wait that has failed", [&] { exchange.dispatch({}); });
  };
  std::thread other(run, 1, std::chrono::seconds(1));
  run(0, std::chrono::seconds(0));
  other.join();
}

}  // namespace

int main() {
  const ThreadTeam team(1);
  {
    Group group = Group::join(team, 0, {.backend = BackendKind::cpu});
    Exchange exchange(group, kConfig);
    usage(exchange);
    config(group);
    state(exchange);
    capacity(group);
    group.abort("the loader has no more data");
    show("any call after abort", [&] { exchange.dispatch({}); });
  }
  peer_lost();
  setenv("CROSSDOCK_PLUGIN_DIR", "/nonexistent", 1);  // whatever this machine has
  show("a backend that is not there", [] { Group::join(ThreadTeam(1), 0, {.backend = BackendKind::hip}); });
}
