// SPDX-License-Identifier: Apache-2.0
// Checks of a call's arguments. Each one throws before anything is enqueued. Its text names the call, the rank, the value
// and the rule.
#pragma once

#include <memory>
#include <optional>

#include "op/exchange_state.hpp"

namespace crossdock::op {

/// What an Exchange points to. StateError if it was moved from.
detail::ExchangeState& state_of(const std::shared_ptr<detail::ExchangeState>& state, const char* call);

/// StateError if the Received was consumed, moved from, or made by another exchange.
void check_received(const detail::ExchangeState& e, const char* call, const detail::ReceivedState* received);

/// StateError if the Plan was moved from, or made by another exchange.
void check_plan(const detail::ExchangeState& e, const char* call, const detail::PlanState* plan);

/// The geometry, which may be left open, and the stream. True if the stream is capturing.
bool check_options(const detail::ExchangeState& e, const char* call, const CallOptions& options);

/// `plan_tokens`: T of the plan that is replayed, -1 if only the device has it; nothing for a new routing.
void check_dispatch(const detail::ExchangeState& e, const DispatchInput& in, std::optional<std::int32_t> plan_tokens);

/// Inputs and outputs of a combine. `in` is null for combine_fused, whose rows lie in the combine slots. `any_tokens`:
/// this rank may have tokens, so the result needs memory.
void check_combine(const detail::ExchangeState& e, const char* call, const CombineInput* in, const CombineOutput& out,
                   bool any_tokens);

/// Whether combine_fused may sum the combine slots of `received`, for `num_tokens` tokens.
void check_fused(const detail::ExchangeState& e, const detail::ReceivedState* received, std::int32_t num_tokens);

/// The buffer set whose combine buffer `rows` is, -1 if there is none. UsageError if it is another one than `buffer_set`,
/// unless that is -1.
int check_combine_buffer(const detail::ExchangeState& e, const void* rows, int buffer_set);

}  // namespace crossdock::op
