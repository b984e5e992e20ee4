// SPDX-License-Identifier: Apache-2.0
// Checks of a call's arguments. A check throws before anything is enqueued. Its text names the call and the rule, and
// the rank and the value where there are any.
#pragma once

#include <memory>
#include <optional>

#include "op/exchange_state.hpp"

namespace crossdock::op {

/// The state behind an Exchange. StateError if the Exchange was moved from.
detail::ExchangeState& state_of(const std::shared_ptr<detail::ExchangeState>& state, const char* call);

/// StateError if the Received was consumed, moved from, or made by another exchange.
void check_received(const detail::ExchangeState& e, const char* call, const detail::ReceivedState* received);

/// StateError if the Plan was moved from, or made by another exchange.
void check_plan(const detail::ExchangeState& e, const char* call, const detail::PlanState* plan);

/// Checks geometry and stream. UsageError for negative numbers, for a stream of another device, and for the default
/// stream where several ranks of this process would share it. Returns whether the stream is capturing.
bool check_options(const detail::ExchangeState& e, const char* call, const CallOptions& options);

/// Checks the inputs of a dispatch. `plan_tokens`: in a replay the plan's T, or -1 if only the device knows it; empty
/// for a new routing.
void check_dispatch(const detail::ExchangeState& e, const DispatchInput& in, std::optional<std::int32_t> plan_tokens);

/// Checks the pointers of a combine. `in` is null for combine_fused, whose rows lie in the combine slots. `any_tokens`:
/// this rank may have tokens, so output pointers must not be null.
void check_combine(const detail::ExchangeState& e, const char* call, const CombineInput* in, const CombineOutput& out,
                   bool any_tokens);

/// Throws StateError unless combine_fused may sum the combine slots of `received`, UsageError for a bad `num_tokens`.
void check_fused(const detail::ExchangeState& e, const detail::ReceivedState* received, std::int32_t num_tokens);

/// Returns the buffer set whose combine buffer begins at `rows`, or -1 if there is none. UsageError if that set is not
/// `buffer_set`; a `buffer_set` of -1 permits any set.
int check_combine_buffer(const detail::ExchangeState& e, const void* rows, int buffer_set);

}  // namespace crossdock::op
