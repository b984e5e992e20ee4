// SPDX-License-Identifier: Apache-2.0
// Received and Plan: views of what a dispatch delivered.

#include "op/exchange_state.hpp"
#include "op/text.hpp"

namespace crossdock {

using op::text;

Received::Received(std::unique_ptr<detail::ReceivedState> state) : state_(std::move(state)) {}
Received::Received(Received&&) noexcept = default;
Received& Received::operator=(Received&&) noexcept = default;
Received::~Received() = default;

Plan::Plan(std::unique_ptr<detail::PlanState> state) : state_(std::move(state)) {}
Plan::Plan(Plan&&) noexcept = default;
Plan& Plan::operator=(Plan&&) noexcept = default;
Plan::~Plan() = default;

namespace {

/// Addresses of a Received's regions in this rank's arena.
struct View {
  const detail::ExchangeState& e;
  int buffer_set_idx;
  int plan_idx;

  template <class T>
  T* buffer_set(std::uint64_t region) const {
    return e.local<T>(e.arena.buffer_set_at(buffer_set_idx, region));
  }
  template <class T>
  T* plan(std::uint64_t region) const {
    return e.local<T>(e.arena.plan_at(plan_idx, region));
  }
};

template <class State>
const State& alive(const std::unique_ptr<State>& state, const char* what) {
  if (!state) throw StateError(text(what, ": the object was consumed by combine or moved from"));
  return *state;
}

View view_of(const std::unique_ptr<detail::ReceivedState>& state, const char* what) {
  const detail::ReceivedState& s = alive(state, what);
  return {*s.exchange, s.buffer_set, s.plan};
}

}  // namespace

const Counts* Plan::counts() const {
  const detail::PlanState& s = alive(state_, "Plan::counts");
  return s.exchange->local<Counts>(s.exchange->arena.plan_at(s.plan, s.exchange->arena.plan.counts));
}

const std::int32_t* Plan::expert_counts() const {
  const detail::PlanState& s = alive(state_, "Plan::expert_counts");
  return s.exchange->local<std::int32_t>(s.exchange->arena.plan_at(s.plan, s.exchange->arena.plan.expert_counts));
}

TokenRows Received::tokens() const {
  const View v = view_of(state_, "Received::tokens");
  const memory::Arena& a = v.e.arena;
  const int rank = v.e.group->rank();
  TokenRows rows{};
  rows.rows = v.buffer_set<void>(a.buffer_set.rows);
  rows.scales = v.e.shape.scale_bytes ? v.buffer_set<void>(a.buffer_set.scales) : nullptr;
  rows.topk_ids = v.plan<std::int32_t>(a.plan.topk_ids);
  rows.topk_weights = v.plan<float>(a.plan.topk_weights);
  rows.sources = v.plan<RowSource>(a.plan.sources);
  rows.row_capacity = v.e.shape.row_capacity;
  rows.first_expert = rank * v.e.shape.experts_per_rank;
  rows.num_local_experts = local_experts_of(v.e.shape, rank);
  return rows;
}

bool Received::has_experts() const {
  return view_of(state_, "Received::has_experts").e.shape.layout != Layout::token_major;
}
bool Received::has_combine_buffer() const { return view_of(state_, "Received::has_combine_buffer").e.shape.zero_copy; }

ExpertRows Received::experts() const {
  const View v = view_of(state_, "Received::experts");
  if (v.e.shape.layout == Layout::token_major)
    throw StateError(
        text("Received::experts on rank ", v.e.group->rank(), ": the layout is token_major; use tokens()"));
  const memory::Arena& a = v.e.arena;
  ExpertRows rows{};
  rows.rows = v.buffer_set<void>(a.buffer_set.expert_rows);
  rows.scales = v.e.shape.scale_bytes ? v.buffer_set<void>(a.buffer_set.expert_scales) : nullptr;
  rows.weights = v.plan<float>(a.plan.expert_weights);
  rows.sources = v.plan<RowSource>(a.plan.expert_sources);
  rows.offsets = v.plan<std::int32_t>(a.plan.expert_offsets);
  rows.num_rows_max = v.e.shape.expert_rows;
  rows.capacity_per_expert = v.e.shape.layout == Layout::expert_major ? v.e.shape.expert_capacity : 0;
  return rows;
}

const Counts* Received::counts() const {
  const View v = view_of(state_, "Received::counts");
  return v.plan<Counts>(v.e.arena.plan.counts);
}

const std::int32_t* Received::expert_counts() const {
  const View v = view_of(state_, "Received::expert_counts");
  return v.plan<std::int32_t>(v.e.arena.plan.expert_counts);
}

CombineBuffer Received::combine_buffer() const {
  const View v = view_of(state_, "Received::combine_buffer");
  return combine_buffer(v.e.config.combine_dtype, v.e.config.hidden);
}

CombineBuffer Received::combine_buffer(Dtype dtype, std::int32_t hidden) const {
  const View v = view_of(state_, "Received::combine_buffer");
  const Shape& shape = v.e.shape;
  if (!shape.zero_copy)
    throw StateError(text("Received::combine_buffer on rank ", v.e.group->rank(),
                          ": needs config.zero_copy; set it in the Config of a new Exchange on every rank"));
  const std::int64_t row_bytes = row_bytes_of(dtype, hidden),
                     rows = shape.expert_rows ? shape.expert_rows : shape.row_capacity;
  if (hidden <= 0 || std::int64_t{hidden} * bits_of(dtype) % 128 || row_bytes > shape.combine_row_bytes)
    throw UsageError(text("Received::combine_buffer on rank ", v.e.group->rank(), ": rows of ", hidden, " ",
                          name_of(dtype), " are ", row_bytes,
                          " bytes; a row must be a multiple of 16 bytes and at most ", shape.combine_row_bytes));
  return {v.buffer_set<void>(v.e.arena.buffer_set.combine_rows), rows, row_bytes};
}

void* Received::combine_slots(int rank) const {
  const View v = view_of(state_, "Received::combine_slots");
  if (!v.e.shape.fused)
    throw StateError(text("Received::combine_slots on rank ", v.e.group->rank(),
                          ": needs config.fused; set it in the Config of a new Exchange on every rank"));
  if (rank < 0 || rank >= v.e.shape.num_ranks)
    throw UsageError(text("Received::combine_slots on rank ", v.e.group->rank(), ": rank = ", rank, "; must be 0 to ",
                          v.e.shape.num_ranks - 1));
  return v.e.memory.base(rank) + v.e.arena.buffer_set_at(v.buffer_set_idx, v.e.arena.buffer_set.combine_slots);
}

Plan Received::retain_plan() {
  // alive() is shared with the const views; this object is not const.
  detail::ReceivedState& s = const_cast<detail::ReceivedState&>(alive(state_, "Received::retain_plan"));
  detail::ExchangeState& e = *s.exchange;
  if (s.kept) throw StateError(text("Received::retain_plan on rank ", e.group->rank(), ": its plan is kept already"));
  if (e.num_kept >= e.config.max_kept_plans)
    throw StateError(text("Received::retain_plan on rank ", e.group->rank(), ": ", e.num_kept,
                          " plans are kept, as many as config.max_kept_plans ",
                          "admits; destroy one first, or raise max_kept_plans"));
  if (e.plan_in_graph[s.plan] && !s.captured)
    throw StateError(text("Received::retain_plan on rank ", e.group->rank(),
                          ": a captured graph writes this plan's memory whenever it is ",
                          "replayed, and no other was free; raise max_kept_plans"));
  s.kept = true;
  ++e.num_kept;
  e.hold_plan(s.plan);
  return Plan(std::unique_ptr<detail::PlanState>(new detail::PlanState{s.exchange, s.plan}));
}

}  // namespace crossdock
