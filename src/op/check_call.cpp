// SPDX-License-Identifier: Apache-2.0
#include "op/check_call.hpp"

#include <utility>

#include "op/text.hpp"

namespace crossdock::op {
namespace {

using detail::ExchangeState;

/// "<call> on rank <r>: ", the beginning of an error text.
std::string where(const ExchangeState& e, const char* call) { return text(call, " on rank ", e.group->rank(), ": "); }

/// A pointer argument of a call, with checks that throw UsageError.
struct Argument {
  const ExchangeState& exchange;
  const char* call;
  const char* name;
  const void* pointer;

  void required(bool needed, const char* advice = ", only where there are no tokens it may be null") const {
    if (needed && !pointer)
      throw UsageError(text(where(exchange, call), name, " is null; pass memory of this device", advice));
  }
  /// Checks the alignment, and whether kernels of this device can access the memory. Null passes.
  void aligned(std::uintptr_t alignment) const {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    if (address % alignment)
      throw UsageError(text(where(exchange, call), name, " lies ", address % alignment, " bytes past a multiple of ",
                            alignment, "; it must be ", alignment, "-byte aligned"));
    if (!pointer || exchange.memory.holds(pointer)) return;  // the library's own memory: saves a query
    const std::string error = exchange.group->device().pointer_error(pointer);
    if (!error.empty()) throw UsageError(text(where(exchange, call), name, " ", error));
  }
};

}  // namespace

ExchangeState& state_of(const std::shared_ptr<ExchangeState>& state, const char* call) {
  if (!state) throw StateError(text(call, ": the exchange was moved from"));
  return *state;
}

void check_received(const ExchangeState& e, const char* call, const detail::ReceivedState* received) {
  if (!received || received->exchange.get() != &e)
    throw StateError(
        text(where(e, call),
             "this Received was combined before, moved from, or belongs to another exchange; dispatch first"));
}

void check_plan(const ExchangeState& e, const char* call, const detail::PlanState* plan) {
  if (!plan || plan->exchange.get() != &e)
    throw StateError(text(where(e, call), "the plan belongs to another exchange, or was moved from"));
}

bool check_options(const ExchangeState& e, const char* call, const CallOptions& options) {
  for (const auto& [name, value] :
       {std::pair("num_sms", options.num_sms), std::pair("num_blocks", options.num_blocks),
        std::pair("num_warps", options.num_warps), std::pair("splits_per_row", options.splits_per_row)})
    if (value < 0) throw UsageError(text(where(e, call), name, " = ", value, "; must be 0 (not chosen here) or more"));
  if (!options.stream && e.default_stream_is_shared)
    throw UsageError(text(where(e, call), "ranks of this process share device ", e.group->device().ordinal(),
                          "; on the default stream one would queue up behind the other and wait for it. Pass a stream "
                          "of the rank's own"));
  return e.group->device().check_stream(options.stream);
}

void check_dispatch(const ExchangeState& e, const DispatchInput& in, std::optional<std::int32_t> plan_tokens) {
  constexpr const char* call = "dispatch";
  if (in.num_tokens < 0 || in.num_tokens > e.shape.max_tokens_per_rank)
    throw UsageError(text(where(e, call), "num_tokens = ", in.num_tokens,
                          "; must be 0 to max_tokens_per_rank = ", e.shape.max_tokens_per_rank));
  // Pointers may be null only if T is 0 for certain. If the device has T, there may be tokens.
  const bool any_tokens = plan_tokens ? *plan_tokens != 0 : in.num_tokens_on_device || in.num_tokens > 0;
  const auto check = [&](const char* name, const void* pointer, bool needed, std::uintptr_t alignment) {
    const Argument argument{e, call, name, pointer};
    argument.required(needed && any_tokens);
    argument.aligned(alignment);
  };
  check("tokens", in.tokens, true, 16);
  check("scales", in.scales, e.shape.scale_bytes > 0, 1);
  check("num_tokens_on_device", in.num_tokens_on_device, false, 4);
  if (!plan_tokens) {
    check("topk_ids", in.topk_ids, true, in.topk_ids_are_int64 ? 8 : 4);
    check("topk_weights", in.topk_weights, false, 4);
  } else if (*plan_tokens >= 0 && !in.num_tokens_on_device && in.num_tokens != *plan_tokens) {
    throw UsageError(text(where(e, call), "num_tokens = ", in.num_tokens, "; the plan routes ", *plan_tokens));
  }
}

void check_combine(const ExchangeState& e, const char* call, const CombineInput* in, const CombineOutput& out,
                   bool any_tokens) {
  const Argument rows{e, call, "output.rows", out.rows}, weights{e, call, "output.topk_weights", out.topk_weights};
  if (in) {
    const Argument input{e, call, "input.rows", in->rows};
    input.required(true, ", also where nothing was received: the received rows, say");
    input.aligned(16);
  }
  rows.required(any_tokens);
  rows.aligned(16);
  if ((in ? in->combine_topk_weights : out.topk_weights != nullptr) && !e.shape.combine_topk_weights)
    throw UsageError(text(where(e, call), in ? "input.combine_topk_weights" : "output.topk_weights",
                          " needs config.combine_topk_weights; set it in the Config of a new Exchange on every rank"));
  if (!in) {                             // combine_fused: output.topk_weights, if not null, requests the second result
    if (any_tokens) weights.aligned(4);  // a rank without tokens must request it too, and may pass any address
    return;
  }
  weights.required(in->combine_topk_weights && any_tokens);
  Argument{e, call, "input.topk_weights", in->topk_weights}.aligned(4);
  weights.aligned(4);
}

void check_fused(const ExchangeState& e, const detail::ReceivedState* received, std::int32_t num_tokens) {
  constexpr const char* call = "combine_fused";
  if (!e.shape.fused)
    throw StateError(text(where(e, call), "needs config.fused; set it in the Config of a new Exchange on every rank"));
  check_received(e, call, received);
  if (num_tokens < -1 || num_tokens > e.shape.max_tokens_per_rank)
    throw UsageError(text(where(e, call), "num_tokens = ", num_tokens, "; must be -1 (of the plan) or 0 to ",
                          e.shape.max_tokens_per_rank));
  if (!e.slots_free[received->buffer_set])
    throw StateError(text(where(e, call), "a combine along a kept plan has used the combine slots since ",
                          "this dispatch; dispatch again, or allow more in flight"));
}

int check_combine_buffer(const ExchangeState& e, const void* rows, int buffer_set) {
  const int owner = e.buffer_set_of_combine_buffer(rows);
  if (owner >= 0 && buffer_set >= 0 && owner != buffer_set)
    throw UsageError(text(where(e, "combine"), "input.rows is the combine buffer of another Received"));
  return owner;
}

}  // namespace crossdock::op
