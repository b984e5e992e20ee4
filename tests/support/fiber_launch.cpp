// SPDX-License-Identifier: Apache-2.0
#include "support/fiber_launch.hpp"

#include <map>
#include <mutex>
#include <stdexcept>

#include "op/exchange_state.hpp"
#include "oracle/random.hpp"

namespace crossdock::testing {
namespace {

using StateMember = std::shared_ptr<detail::ExchangeState> Exchange::*;
StateMember state_member();

/// An explicit instantiation may name private members, and a friend may hand them out: no hook in the public header.
template <StateMember kMember>
struct OpenExchange {
  friend StateMember state_member() { return kMember; }
};
template struct OpenExchange<&Exchange::state_>;

struct Executors {
  std::mutex mutex;
  std::map<const std::byte*, FiberExecutor> by_base;
} executors;

}  // namespace

detail::ExchangeState& state_of(Exchange& exchange) { return *(exchange.*state_member()); }

void use_fibers(Exchange& exchange, const Executor& executor, Multiprocessors* multiprocessors) {
  detail::ExchangeState& state = state_of(exchange);
  if (executor.width != 32 && executor.width != 64) throw std::invalid_argument("fibers: width must be 32 or 64");
  state.launches = executor.width == 32 ? &fiber_launches_32() : &fiber_launches_64();
  state.limits = {executor.num_blocks, executor.width, executor.num_threads};
  state.moving_blocks = executor.num_blocks;
  state.waiting_blocks = executor.num_waiting_blocks ? executor.num_waiting_blocks : executor.num_blocks;
  if (executor.num_waiting_blocks)
    state.config.num_blocks = executor.num_blocks;  // else a large batch alone takes steps
  const std::lock_guard lock(executors.mutex);
  executors.by_base[state.local<std::byte>(0)] = {executor, multiprocessors};
}

FiberExecutor executor_at(const std::byte* base) {
  const std::lock_guard lock(executors.mutex);
  FiberExecutor& executor = executors.by_base.at(base);
  if (executor.seed != 0) executor.seed = oracle::hash_of({executor.seed});
  return executor;
}

}  // namespace crossdock::testing
