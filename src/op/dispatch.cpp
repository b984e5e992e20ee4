// SPDX-License-Identifier: Apache-2.0
// Exchange::dispatch, along a new routing or a kept plan.

#include "op/check_call.hpp"
#include "op/choose_geometry.hpp"
#include "op/launcher.hpp"

namespace crossdock {
namespace {

using detail::ExchangeState;

/// The kernel arguments, except `splits`: choose_dispatch computes these from the others.
kernels::DispatchArgs args_of(const ExchangeState& e, const DispatchInput& in, int buffer_set, int plan, bool replay) {
  kernels::DispatchArgs args{};
  args.call = e.call(buffer_set, plan);
  args.tokens = static_cast<const std::byte*>(in.tokens);
  args.topk_ids = {in.topk_ids, in.topk_ids_are_int64};
  args.topk_weights = in.topk_weights;
  args.scales = static_cast<const std::byte*>(in.scales);
  args.aligned_scales = e.shape.scale_bytes % 16 == 0 && reinterpret_cast<std::uintptr_t>(in.scales) % 16 == 0;
  args.num_tokens = in.num_tokens;
  args.num_tokens_on_device = in.num_tokens_on_device;
  args.replay = replay;
  return args;
}

/// Enqueues the kernels that route tokens and move their rows.
void launch_crossing(const ExchangeState& e, const op::DispatchGeometry& chosen, kernels::DispatchArgs args,
                     op::Launcher& launch) {
  const auto step = [&](kernels::DispatchStep what, const platform::Geometry& geometry) {
    args.step = what;
    launch(e.launches->dispatch, geometry, args);
  };
  if (!chosen.in_steps) return step(kernels::DispatchStep::whole, chosen.dispatch.geometry);
  step(kernels::DispatchStep::route, chosen.route);
  step(kernels::DispatchStep::move, chosen.dispatch.geometry);
}

/// Enqueues the kernels that copy received rows to their experts.
void launch_expert_rows(const ExchangeState& e, const platform::Geometry& geometry, kernels::ExpertRowsArgs args,
                        op::Launcher& launch) {
  if (op::in_steps(e, args, geometry)) {
    args.step = kernels::ExpertRowsStep::count;
    launch(e.launches->expert_rows, geometry, args);
    args.step = kernels::ExpertRowsStep::copy;
  }
  launch(e.launches->expert_rows, geometry, args);
}

/// Enqueues the kernels of a dispatch whose arguments are checked.
void launch(ExchangeState& e, int buffer_set, kernels::DispatchArgs args, const CallOptions& options, bool capturing) {
  const op::DispatchGeometry chosen = op::choose_dispatch(e, args, options);
  args.splits = chosen.dispatch.splits;
  e.slots_free[buffer_set] = true;
  e.last_launch = chosen.info;
  const platform::CurrentDevice current(e.group->device());
  const detail::StreamMark mark(e, options.stream, capturing);
  op::Launcher launcher(e, "dispatch", options.stream);
  launch_crossing(e, chosen, args, launcher);
  if (e.shape.layout == Layout::token_major) return;
  launch_expert_rows(e, chosen.expert_rows.geometry,
                     {args.call, chosen.expert_rows.splits, args.replay, kernels::ExpertRowsStep::whole}, launcher);
}

}  // namespace

Received Exchange::dispatch(const DispatchInput& input, const CallOptions& options) {
  ExchangeState& e = op::state_of(state_, "dispatch");
  const platform::Range range(e.group->device(), "crossdock dispatch");
  e.check("dispatch");
  op::check_dispatch(e, input, {});
  const bool capturing = op::check_options(e, "dispatch", options);
  const int buffer_set = e.take_buffer_set("dispatch"), plan = e.take_plan(capturing);
  Received received(
      std::unique_ptr<detail::ReceivedState>(new detail::ReceivedState{state_, buffer_set, plan, capturing}));
  e.plan_tokens[plan] = input.num_tokens_on_device ? -1 : input.num_tokens;
  launch(e, buffer_set, args_of(e, input, buffer_set, plan, false), options, capturing);
  return received;
}

Received Exchange::dispatch(const Plan& kept, const DispatchInput& input, const CallOptions& options) {
  ExchangeState& e = op::state_of(state_, "dispatch");
  const platform::Range range(e.group->device(), "crossdock dispatch along a plan");
  e.check("dispatch");
  op::check_plan(e, "dispatch", kept.state_.get());
  const int plan = kept.state_->plan;
  op::check_dispatch(e, input, e.plan_tokens[plan]);
  const bool capturing = op::check_options(e, "dispatch", options);
  const int buffer_set = e.take_buffer_set("dispatch");
  e.hold_plan(plan);
  // `captured` is true, so that retain_plan() accepts a plan that a graph writes: the caller holds it already.
  Received received(std::unique_ptr<detail::ReceivedState>(new detail::ReceivedState{state_, buffer_set, plan, true}));
  launch(e, buffer_set, args_of(e, input, buffer_set, plan, true), options, capturing);
  return received;
}

}  // namespace crossdock
