// SPDX-License-Identifier: Apache-2.0
// The two operators on the host: check, choose, launch.

#include "crossdock/exchange.hpp"

#include <optional>

#include <algorithm>

#include "op/exchange_state.hpp"
#include "op/shape.hpp"
#include "op/text.hpp"

namespace crossdock {
namespace {

using detail::ExchangeState;
using op::text;

/// One argument of a call, for checks and their texts.
struct Argument {
  const ExchangeState& exchange;
  const char* call;
  const char* name;
  const void* pointer;

  std::string where() const { return text(call, " on rank ", exchange.group->rank(), ": "); }

  void required(bool needed, const char* advice = ", only where there are no tokens it may be null") const {
    if (needed && !pointer) throw UsageError(text(where(), name, " is null; pass memory of this device", advice));
  }
  void aligned(std::uintptr_t alignment) const {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    if (address % alignment)
      throw UsageError(text(where(), name, " lies ", address % alignment, " bytes past a multiple of ", alignment,
                            "; it must be ", alignment, "-byte aligned"));
    if (!pointer || exchange.memory.holds(pointer)) return;  // no need to ask the driver
    const std::string why = exchange.group->device().why_not_pointer(pointer);
    if (!why.empty()) throw UsageError(text(where(), name, " ", why));
  }
};

/// True if the stream is capturing.
bool check_options(const ExchangeState& e, const char* call, const CallOptions& options) {
  for (const auto& [name, value] : {std::pair("num_sms", options.num_sms), std::pair("num_blocks", options.num_blocks),
                                    std::pair("num_warps", options.num_warps), std::pair("pieces", options.pieces)})
    if (value < 0)
      throw UsageError(
          text(call, " on rank ", e.group->rank(), ": ", name, " = ", value, "; must be 0 (not chosen here) or more"));
  if (!options.stream && e.default_stream_is_shared)
    throw UsageError(text(call, " on rank ", e.group->rank(), ": ranks of this process share device ",
                          e.group->device().ordinal(),
                          "; on the default stream one would queue up behind the other and wait for it. Pass a stream "
                          "of the rank's own"));
  return e.group->device().check_stream(options.stream);
}

/// `plan_tokens`: T of the plan that is replayed, -1 if only the device knows it; nothing for a new routing.
void check_dispatch(const ExchangeState& e, const DispatchInput& in, std::optional<std::int32_t> plan_tokens) {
  constexpr const char* call = "dispatch";
  if (in.num_tokens < 0 || in.num_tokens > e.shape.max_tokens)
    throw UsageError(text("dispatch on rank ", e.group->rank(), ": num_tokens = ", in.num_tokens,
                          "; must be 0 to max_tokens = ", e.shape.max_tokens));
  const bool any = plan_tokens ? *plan_tokens != 0 : in.num_tokens_on_device || in.num_tokens > 0;
  const auto check = [&](const char* name, const void* pointer, bool needed, std::uintptr_t alignment) {
    const Argument argument{e, call, name, pointer};
    argument.required(needed && any);
    argument.aligned(alignment);
  };
  check("rows", in.rows, true, 16);
  check("scales", in.scales, e.shape.scale_bytes > 0, 1);
  check("num_tokens_on_device", in.num_tokens_on_device, false, 4);
  if (plan_tokens) return;
  check("ids", in.ids, true, in.ids_are_int64 ? 8 : 4);
  check("weights", in.weights, false, 4);
}

kernels::DispatchArgs dispatch_args(ExchangeState& e, const DispatchInput& in, int place, int plan, bool replay) {
  e.landing_free[place] = true;
  kernels::DispatchArgs args{};
  args.call = e.call(place, plan);
  args.rows = static_cast<const std::byte*>(in.rows);
  args.ids = {in.ids, in.ids_are_int64};
  args.weights = in.weights;
  args.scales = static_cast<const std::byte*>(in.scales);
  args.aligned_scales = e.shape.scale_bytes % 16 == 0 && reinterpret_cast<std::uintptr_t>(in.scales) % 16 == 0;
  args.num_tokens = in.num_tokens;
  args.num_tokens_on_device = in.num_tokens_on_device;
  args.replay = replay;
  return args;
}

/// A row of `bytes` bytes in about `count` pieces, each a multiple of `grain` units of 16 bytes.
kernels::Pieces pieces_of(std::int64_t bytes, int count, int grain) {
  const std::int32_t units = static_cast<std::int32_t>(bytes / 16), each = round_up(ceil_div(units, count), grain);
  return kernels::Pieces::of(units, each);
}

/// What Exchange::last_launch tells.
void note_launch(ExchangeState& e, platform::Geometry geometry, const kernels::Pieces& pieces, Decider by) {
  e.last_launch = {geometry.num_blocks, geometry.num_threads / e.limits.width, pieces.count, by};
}

/// Blocks of a launch whose rows go in packets have few warps: a part of a row each, on as many multiprocessors as that takes.
/// `beside`: parts of what goes along with a row.
tuning::Choice choose_for_packets(const ExchangeState& e, std::int64_t tokens, std::int64_t row_bytes, int beside,
                                  tuning::Wish wish, int idle_blocks) {
  constexpr int kWarps = 8;
  const int parts =
      static_cast<int>(ceil_div<std::int64_t>(row_bytes / 16, std::int64_t{packet::kUnitsPacked} * e.limits.width));
  if (wish.num_warps == 0) wish.num_warps = kWarps;
  wish.pieces = parts + beside;
  tuning::Choice choice = e.choose(tokens * e.shape.ranks_per_token, row_bytes, wish, idle_blocks);
  choice.pieces = parts;
  return choice;
}

void launch_dispatch(ExchangeState& e, kernels::DispatchArgs& args, const CallOptions& options, bool capturing) {
  const std::int64_t tokens = args.num_tokens_on_device || args.replay ? e.shape.max_tokens : args.num_tokens;
  const tuning::Decision decision = e.decide_dispatch(options, tokens);
  const int idle_blocks = tokens <= kernels::kChunk ? kernels::kIdleOfSmall : 1;  // one to count and publish
  const tuning::Choice choice =
      kernels::goes_in_packets(args)
          ? choose_for_packets(e, tokens, e.shape.row_bytes, 1, decision.wish, kernels::kClerks)
          : e.choose(tokens, e.shape.row_bytes, decision.wish, idle_blocks);
  args.pieces = pieces_of(e.shape.row_bytes, choice.pieces, 1);
  note_launch(e, choice.geometry, args.pieces, decision.by);
  const platform::CurrentDevice current(e.group->device());
  const detail::CallUnderWay under_way(e, options.stream, capturing);
  e.launches->dispatch(choice.geometry, options.stream, args);
  if (e.shape.layout == Layout::token_major) return;
  // As if the others had as many tokens.
  const std::int64_t expected = smaller(e.shape.row_capacity, larger(tokens, tuning::kLeastTokens) * e.shape.num_ranks);
  const tuning::Choice rows =
      e.choose(expected, e.shape.row_bytes, {.num_sms = decision.wish.num_sms}, 1);  // for books
  const kernels::ExpertRowsArgs by_expert{args.call, pieces_of(e.shape.row_bytes, rows.pieces, 1), args.replay};
  e.launches->expert_rows(rows.geometry, options.stream, by_expert);
}

/// The call-wide part of combine, shared by its forms. `place` -1: any.
void run_combine(ExchangeState& e, int place, int plan, const CombineInput& in, const CombineOutput& out,
                 const CallOptions& options) {
  constexpr const char* call = "combine";
  const platform::Range range(e.group->device(), "crossdock combine");
  const bool any = e.plan_tokens[plan] != 0;
  Argument{e, call, "input.rows", in.rows}.required(true, ", also where nothing was received: the received rows, say");
  Argument{e, call, "input.rows", in.rows}.aligned(16);
  Argument{e, call, "output.rows", out.rows}.required(any);
  Argument{e, call, "output.rows", out.rows}.aligned(16);
  if (in.with_weights && !e.shape.combine_weights)
    throw UsageError(
        text("combine on rank ", e.group->rank(),
             ": with_weights needs config.combine_weights; set it in the Config of a new Exchange on every rank"));
  Argument{e, call, "output.weights", out.weights}.required(in.with_weights && any);
  Argument{e, call, "input.weights", in.weights}.aligned(4);
  Argument{e, call, "output.weights", out.weights}.aligned(4);
  const bool capturing = check_options(e, call, options);

  const platform::CurrentDevice current(e.group->device());
  const int owner = e.place_of_combine_buffer(in.rows);
  if (owner >= 0 && place >= 0 && owner != place)
    throw UsageError(
        text("combine on rank ", e.group->rank(), ": input.rows is the combine buffer of another Received"));
  const bool by_expert = e.shape.layout != Layout::token_major;
  kernels::CombineArgs args{};
  const int used = place >= 0 ? place : owner >= 0 ? owner : e.place_for_plan();
  args.call = e.call(used, plan);
  args.rows = static_cast<const std::byte*>(in.rows);
  args.weights = in.weights;
  args.out = static_cast<std::byte*>(out.rows);
  args.out_weights = out.weights;
  args.num_tokens = -1;
  args.with_weights = in.with_weights;
  args.source = owner >= 0 && !by_expert ? kernels::Source::peers : kernels::Source::landing;
  const std::int64_t tokens = e.plan_tokens[plan] < 0 ? e.shape.max_tokens : e.plan_tokens[plan];
  const tuning::Decision decision = e.decide_combine(options, owner >= 0 ? Path::zero_copy : Path::staged, tokens);
  const tuning::Choice send = e.choose(e.shape.row_capacity, e.shape.combine_row_bytes, decision.wish);
  const tuning::Choice reduce = e.choose(tokens, e.shape.combine_row_bytes, decision.wish);
  // Units of a wire row: 16 bytes of it, however many of the row they carry; a block of fp8_block128 has eight.
  const std::int64_t wire_units =
      ceil_div<std::int64_t>(e.config.combine_wire == Wire::own ? e.shape.combine_row_bytes : e.shape.hidden, 16);
  args.send = pieces_of(wire_units * 16, send.pieces, 8);
  args.reduce = pieces_of(wire_units * 16, reduce.pieces, 1);
  const bool pull = args.source == kernels::Source::peers && !args.with_weights;
  const bool packed = kernels::goes_in_packets(args);
  const platform::Geometry geometry =
      packed ? choose_for_packets(e, tokens, e.shape.combine_row_bytes, 0, decision.wish, 1).geometry
      : pull ? reduce.geometry
             : send.geometry;
  note_launch(e, geometry, pull ? args.reduce : args.send, decision.by);
  const detail::CallUnderWay under_way(e, options.stream, capturing);
  e.launches->combine[static_cast<int>(e.config.combine_dtype)][static_cast<int>(e.config.combine_wire)][by_expert](
      geometry, options.stream, args);
  e.landing_free[used] = false;
}

ExchangeState& alive(const std::shared_ptr<ExchangeState>& state, const char* call) {
  if (!state) throw StateError(text(call, ": the exchange was moved from"));
  return *state;
}

}  // namespace

Exchange::Exchange(const Group& group, const Config& config) {
  if (!group.state_) throw StateError("Exchange: the group was moved from or closed");
  state_ = std::make_shared<ExchangeState>(group.state_, config);
}
Exchange::Exchange(Exchange&&) noexcept = default;
Exchange& Exchange::operator=(Exchange&&) noexcept = default;
Exchange::~Exchange() = default;

const Config& Exchange::config() const { return alive(state_, "Exchange::config").config; }
Memory Exchange::memory() const {
  const ExchangeState& e = alive(state_, "Exchange::memory");
  Memory bill = op::bill_of(e.shape, platform::page_bytes_of(e.group->device().kind()));
  bill.total_bytes = e.memory.bytes() + e.report_block->bytes();  // what was taken, not what was planned
  return bill;
}

Received Exchange::dispatch(const DispatchInput& input, const CallOptions& options) {
  ExchangeState& e = alive(state_, "dispatch");
  const platform::Range range(e.group->device(), "crossdock dispatch");
  e.check("dispatch");
  check_dispatch(e, input, {});
  const bool capturing = check_options(e, "dispatch", options);
  const int place = e.take_place("dispatch"), plan = e.take_plan(capturing);
  Received received(std::unique_ptr<detail::ReceivedState>(new detail::ReceivedState{state_, place, plan, capturing}));
  e.plan_tokens[plan] = input.num_tokens_on_device ? -1 : input.num_tokens;
  kernels::DispatchArgs args = dispatch_args(e, input, place, plan, false);
  launch_dispatch(e, args, options, capturing);
  return received;
}

Received Exchange::dispatch(const Plan& kept, const DispatchInput& input, const CallOptions& options) {
  ExchangeState& e = alive(state_, "dispatch");
  const platform::Range range(e.group->device(), "crossdock dispatch along a plan");
  e.check("dispatch");
  if (!kept.state_ || kept.state_->exchange != state_)
    throw StateError(
        text("dispatch on rank ", e.group->rank(), ": the plan belongs to another exchange, or was moved from"));
  const int plan = kept.state_->plan;
  check_dispatch(e, input, e.plan_tokens[plan]);
  const bool known = e.plan_tokens[plan] >= 0 && !input.num_tokens_on_device;
  if (known && input.num_tokens != e.plan_tokens[plan])
    throw UsageError(text("dispatch on rank ", e.group->rank(), ": num_tokens = ", input.num_tokens,
                          "; the plan routes ", e.plan_tokens[plan]));
  const bool capturing = check_options(e, "dispatch", options);
  const int place = e.take_place("dispatch");
  e.hold_plan(plan);
  auto state = std::unique_ptr<detail::ReceivedState>(new detail::ReceivedState{state_, place, plan, true});
  kernels::DispatchArgs args = dispatch_args(e, input, place, plan, true);
  launch_dispatch(e, args, options, capturing);
  return Received(std::move(state));
}

void Exchange::combine(Received&& received, const CombineInput& input, const CombineOutput& output,
                       const CallOptions& options) {
  ExchangeState& e = alive(state_, "combine");
  e.check("combine");
  if (!received.state_ || received.state_->exchange != state_)
    throw StateError(
        text("combine on rank ", e.group->rank(),
             ": this Received was combined before, moved from, or belongs to another exchange; dispatch first"));
  run_combine(e, received.state_->place, received.state_->plan, input, output, options);
  received.state_.reset();
}

void Exchange::combine(const Plan& plan, const CombineInput& input, const CombineOutput& output,
                       const CallOptions& options) {
  ExchangeState& e = alive(state_, "combine");
  e.check("combine");
  if (!plan.state_ || plan.state_->exchange != state_)
    throw StateError(
        text("combine on rank ", e.group->rank(), ": the plan belongs to another exchange, or was moved from"));
  run_combine(e, -1, plan.state_->plan, input, output, options);
}

void Exchange::combine_fused(Received&& received, const CombineOutput& output, std::int32_t num_tokens,
                             const CallOptions& options) {
  ExchangeState& e = alive(state_, "combine_fused");
  const platform::Range range(e.group->device(), "crossdock combine_fused");
  e.check("combine_fused");
  if (!e.shape.fused)
    throw StateError(text("combine_fused on rank ", e.group->rank(),
                          ": needs config.fused; set it in the Config of a new Exchange on every rank"));
  if (!received.state_ || received.state_->exchange != state_)
    throw StateError(text("combine_fused on rank ", e.group->rank(),
                          ": this Received was combined before, moved from, or belongs to ",
                          "another exchange; dispatch first"));
  if (num_tokens < -1 || num_tokens > e.shape.max_tokens)
    throw UsageError(text("combine_fused on rank ", e.group->rank(), ": num_tokens = ", num_tokens,
                          "; must be -1 (of the plan) or 0 to ", e.shape.max_tokens));
  if (!e.landing_free[received.state_->place])
    throw StateError(text("combine_fused on rank ", e.group->rank(),
                          ": a combine along a kept plan has used the landing rows since ",
                          "this dispatch; dispatch again, or allow more in flight"));
  const int plan = received.state_->plan;
  const std::int32_t tokens = num_tokens >= 0 ? num_tokens : e.plan_tokens[plan];
  Argument{e, "combine_fused", "output.rows", output.rows}.required(tokens != 0);
  Argument{e, "combine_fused", "output.rows", output.rows}.aligned(16);
  if (output.weights && !e.shape.combine_weights)
    throw UsageError(
        text("combine_fused on rank ", e.group->rank(),
             ": output.weights needs config.combine_weights; set it in the Config of a new Exchange on every rank"));
  const bool capturing = check_options(e, "combine_fused", options);
  const platform::CurrentDevice current(e.group->device());
  kernels::CombineArgs args{};
  args.call = e.call(received.state_->place, plan);
  args.out = static_cast<std::byte*>(output.rows);
  args.out_weights = output.weights;
  args.num_tokens = num_tokens;
  args.source = kernels::Source::fused;
  args.with_weights = output.weights != nullptr;
  const std::int64_t rows = tokens < 0 ? e.shape.max_tokens : tokens;
  const tuning::Decision decision = e.decide_combine(options, Path::fused, rows);
  const tuning::Choice choice = e.choose(rows, e.shape.combine_row_bytes, decision.wish);
  args.send = pieces_of(e.shape.combine_row_bytes, 1, 1);
  args.reduce = pieces_of(e.shape.combine_row_bytes, choice.pieces, 1);
  note_launch(e, choice.geometry, args.reduce, decision.by);
  const detail::CallUnderWay under_way(e, options.stream, capturing);
  e.launches->combine[static_cast<int>(e.config.combine_dtype)][0][0](choice.geometry, options.stream, args);
  e.landing_free[received.state_->place] = false;
  received.state_.reset();
}

void Exchange::spoil(void* memory, std::uint64_t bytes, StreamHandle stream) {
  ExchangeState& e = alive(state_, "Exchange::spoil");
  platform::Device& device = e.group->device();
  const bool capturing = device.check_stream(stream);
  const platform::CurrentDevice current(device);
  const detail::CallUnderWay under_way(e, stream, capturing);
  device.fill_on(stream, memory, 0xff, bytes);
}

void Exchange::read(void* to, const void* memory, std::uint64_t bytes, StreamHandle stream) const {
  platform::Device& device = alive(state_, "Exchange::read").group->device();
  if (device.check_stream(stream))
    throw StateError("Exchange::read: the stream is capturing, so nothing has run; end the capture, replay, then read");
  const platform::CurrentDevice current(device);
  device.wait_for(stream);
  device.peek(to, memory, bytes);
}

Launch Exchange::last_launch() const { return alive(state_, "Exchange::last_launch").last_launch; }

std::vector<TraceEvent> Exchange::trace() const {
  const ExchangeState& e = alive(state_, "Exchange::trace");
  std::vector<TraceEvent> all;
  const std::uint32_t most = e.shape.trace_events;
  for (int place = 0; most && place < e.shape.in_flight; ++place) {
    std::uint32_t taken = 0;
    e.group->device().peek(&taken, e.mine<void>(e.arena.place_at(place, e.arena.place.trace_head)), sizeof taken);
    if (taken == 0) continue;
    std::vector<TraceEvent> ring(smaller(taken, most));
    e.group->device().peek(ring.data(), e.mine<void>(e.arena.place_at(place, e.arena.place.trace)),
                           ring.size() * sizeof(TraceEvent));
    // Oldest first: clocks are too coarse to sort by.
    if (taken > most) std::rotate(ring.begin(), ring.begin() + taken % most, ring.end());
    for (TraceEvent& event : ring) event.place = static_cast<std::int16_t>(place);
    all.insert(all.end(), ring.begin(), ring.end());
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const TraceEvent& a, const TraceEvent& b) { return a.time_ns < b.time_ns; });
  return all;
}

Status Exchange::poll() const { return alive(state_, "Exchange::poll").poll(); }
void Exchange::clear_status() { alive(state_, "Exchange::clear_status").clear_status(); }
void Exchange::close() {
  if (state_) state_->closed = true;
}

}  // namespace crossdock
