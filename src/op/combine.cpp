// SPDX-License-Identifier: Apache-2.0
// Exchange::combine, of a Received or along a kept plan, and Exchange::combine_fused.

#include "op/check_call.hpp"
#include "op/choose_geometry.hpp"
#include "op/launcher.hpp"

namespace crossdock {
namespace {

using detail::ExchangeState;

/// What the arguments of all forms of combine have in common.
kernels::CombineArgs args_of(const ExchangeState& e, int buffer_set, int plan, const CombineOutput& out) {
  kernels::CombineArgs args{};
  args.call = e.call(buffer_set, plan);
  args.out = static_cast<std::byte*>(out.rows);
  args.out_topk_weights = out.topk_weights;
  args.num_tokens = -1;  // the plan's
  return args;
}

/// Enqueues the kernels of a combine.
void launch_steps(const ExchangeState& e, const op::CombineGeometry& chosen, kernels::CombineArgs args,
                  StreamHandle stream) {
  using kernels::CombineStep;
  const auto run = e.launches->combine[static_cast<int>(e.config.combine_dtype)]
                                      [static_cast<int>(e.config.combine_quant)][e.shape.layout != Layout::token_major];
  args.max_waiting_blocks = e.waiting_blocks;
  op::Launcher launcher(e, "combine", stream);
  const auto launch = [&](CombineStep step, const platform::Geometry& geometry) {
    args.step = step;
    launcher(run, geometry, args);
  };
  if (!chosen.in_steps) return launch(CombineStep::whole, chosen.geometry);
  if (args.source == kernels::Source::slots || args.combine_topk_weights)
    launch(CombineStep::send, chosen.geometry);
  else
    launch(CombineStep::meet, op::one_block(e));
  launch(CombineStep::reduce, chosen.geometry);
}

/// Enqueues a combine whose arguments are checked. `tokens`: T of this rank, -1 if only the device has it.
void launch(ExchangeState& e, int buffer_set, kernels::CombineArgs args, Path path, std::int32_t tokens,
            const CallOptions& options, bool capturing) {
  const op::CombineGeometry chosen =
      op::choose_combine(e, args, options, path, tokens < 0 ? e.shape.max_tokens_per_rank : tokens);
  args.send = chosen.send;
  args.reduce = chosen.reduce;
  e.last_launch = chosen.info;
  const platform::CurrentDevice current(e.group->device());
  const detail::StreamMark mark(e, options.stream, capturing);
  launch_steps(e, chosen, args, options.stream);
  e.slots_free[buffer_set] = false;
}

/// Checks and enqueues a combine of rows. `buffer_set` is -1 along a plan: then it is the set whose combine buffer is
/// in.rows, else one whose combine slots are free.
void combine_rows(ExchangeState& e, int buffer_set, int plan, const CombineInput& in, const CombineOutput& out,
                  const CallOptions& options) {
  const platform::Range range(e.group->device(), "crossdock combine");
  const std::int32_t tokens = e.plan_tokens[plan];
  op::check_combine(e, "combine", &in, out, tokens != 0);
  const bool capturing = op::check_options(e, "combine", options);
  const int owner = op::check_combine_buffer(e, in.rows, buffer_set);
  const int used = buffer_set >= 0 ? buffer_set : owner >= 0 ? owner : e.buffer_set_for_plan();
  const bool peers_read = owner >= 0 && e.shape.layout == Layout::token_major;
  kernels::CombineArgs args = args_of(e, used, plan, out);
  args.rows = static_cast<const std::byte*>(in.rows);
  args.topk_weights = in.topk_weights;
  args.combine_topk_weights = in.combine_topk_weights;
  args.source = peers_read ? kernels::Source::peers : kernels::Source::slots;
  launch(e, used, args, owner >= 0 ? Path::zero_copy : Path::staged, tokens, options, capturing);
}

}  // namespace

void Exchange::combine(Received&& received, const CombineInput& input, const CombineOutput& output,
                       const CallOptions& options) {
  ExchangeState& e = op::state_of(state_, "combine");
  e.check("combine");
  op::check_received(e, "combine", received.state_.get());
  combine_rows(e, received.state_->buffer_set, received.state_->plan, input, output, options);
  received.state_.reset();
}

void Exchange::combine(const Plan& plan, const CombineInput& input, const CombineOutput& output,
                       const CallOptions& options) {
  ExchangeState& e = op::state_of(state_, "combine");
  e.check("combine");
  op::check_plan(e, "combine", plan.state_.get());
  combine_rows(e, -1, plan.state_->plan, input, output, options);
}

void Exchange::combine_fused(Received&& received, const CombineOutput& output, std::int32_t num_tokens,
                             const CallOptions& options) {
  ExchangeState& e = op::state_of(state_, "combine_fused");
  const platform::Range range(e.group->device(), "crossdock combine_fused");
  e.check("combine_fused");
  op::check_fused(e, received.state_.get(), num_tokens);
  const int buffer_set = received.state_->buffer_set, plan = received.state_->plan;
  const std::int32_t tokens = num_tokens >= 0 ? num_tokens : e.plan_tokens[plan];
  op::check_combine(e, "combine_fused", nullptr, output, tokens != 0);
  const bool capturing = op::check_options(e, "combine_fused", options);
  kernels::CombineArgs args = args_of(e, buffer_set, plan, output);
  args.num_tokens = num_tokens;
  args.source = kernels::Source::fused;
  args.combine_topk_weights = output.topk_weights != nullptr;
  launch(e, buffer_set, args, Path::fused, tokens, options, capturing);
  received.state_.reset();
}

}  // namespace crossdock
