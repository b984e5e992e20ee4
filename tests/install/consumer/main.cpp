// SPDX-License-Identifier: Apache-2.0
// One token to itself and back, through the installed package: links, runs, and prints the version.
#include <array>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "crossdock/crossdock.hpp"

int main() {
  crossdock::ThreadTeam team(1);
  crossdock::Group group = crossdock::Group::join(team, 0, {.backend = crossdock::BackendKind::cpu});

  crossdock::Config config{.hidden = 8, .num_experts = 2, .top_k = 1, .max_tokens_per_rank = 1};
  config.dispatch_dtype = config.combine_dtype = crossdock::Dtype::f32;
  crossdock::Exchange exchange(group, config);

  alignas(16) const std::array<float, 8> row = {1, 2, 3, 4, 5, 6, 7, 8};
  alignas(16) std::array<float, 8> back = {};
  const std::int32_t expert = 1;
  crossdock::Received received = exchange.dispatch({.tokens = row.data(), .topk_ids = &expert, .num_tokens = 1});
  const void* rows = received.tokens().rows;
  exchange.combine(std::move(received), {.rows = rows}, {.rows = back.data()});

  std::puts(crossdock::version());
  return back == row ? 0 : 1;
}
