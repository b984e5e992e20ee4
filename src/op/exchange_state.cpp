// SPDX-License-Identifier: Apache-2.0
#include "op/exchange_state.hpp"

#include <cstring>

#include "memory/bootstrap.hpp"
#include "op/shape.hpp"
#include "op/text.hpp"

namespace crossdock::detail {

using op::text;

ExchangeState::ExchangeState(std::shared_ptr<GroupState> g, const Config& c)
    : group(std::move(g)), deferred_release(group->device()), config(c) {
  group->check("Exchange");
  agree_on_config();
  shape = op::shape_of(config, group->num_ranks());
  arena = memory::arena_of(shape);
  launches = &kernels::launches_of(group->device().kind());
  limits = group->device().limits();
  const platform::CurrentDevice current(group->device());
  group->run_collectively("Exchange", [&] {
    check_instance();
    find_residency();
  });
  find_tuned();
  default_stream_is_shared = group->device().kind() != BackendKind::cpu && group->threads_on_device() > 1;
  buffer_set_busy.assign(shape.max_in_flight, false);
  slots_free.assign(shape.max_in_flight, false);
  plan_holders.assign(shape.num_plans, 0);
  plan_in_graph.assign(shape.num_plans, false);
  plan_tokens.assign(shape.num_plans, 0);
  memory = memory::PeerMemory::create(group->sharing(), arena.total_bytes, "Exchange");
  group->run_collectively("Exchange", [&] {
    report_block = group->device().allocate_host_visible(op::kReportBytes);
    deferred_release.hold(memory);
    deferred_release.hold(report_block);
    group->hold_fault_memory(deferred_release);
    mark_empty_rows();  // no kernel runs before this step has ended on every rank
  });
}

/// ConfigError if this build of the library lacks the kernel for the combine dtype and quant: CROSSDOCK_INSTANCES.
void ExchangeState::check_instance() const {
  if (!launches->combine[static_cast<int>(config.combine_dtype)][static_cast<int>(config.combine_quant)][0])
    throw ConfigError(text("Exchange on rank ", group->rank(), ": this build of the library has no combine of ",
                           name_of(config.combine_dtype), " rows with combine_quant ", name_of(config.combine_quant),
                           "; build it with CROSSDOCK_INSTANCES=all"));
}

/// Blocks that wait need blocks of other ranks to run. So those of all ranks on a device must be resident together.
void ExchangeState::find_residency() {
  moving_blocks = min(memory::kMaxBlocks, launches->max_resident_blocks(min(tuning::kMoveThreads, limits.max_threads)));
  const int resident_together = moving_blocks / group->ranks_on_device();
  waiting_blocks = min(resident_together, group->waiting_blocks());
  if (resident_together < 1)
    throw TopologyError(text("Exchange on rank ", group->rank(), ": ", group->ranks_on_device(), " ranks share device ",
                             group->device().ordinal(), ", more than its multiprocessors can hold together"));
}

/// Selects the entries of the tuning file for this config. Dispatch is tuned for its dtype, combine for dtype and path.
void ExchangeState::find_tuned() {
  tuning::Key key{false, Path::staged, config.dispatch_dtype, config.hidden, config.top_k, shape.experts_per_rank};
  tuned_dispatch = tuning::entries_of(group->tuned(), key);
  key.combine = true;
  key.dtype = config.combine_dtype;
  for (std::size_t path = 0; path < std::size(kPathNames); ++path) {
    key.path = static_cast<Path>(path);
    tuned_combine[path] = tuning::entries_of(group->tuned(), key);
  }
}

/// Collective. Gathers the configs of all ranks. ConfigError, which names the first such rank, if a rank refuses its
/// config or has another one than this rank.
void ExchangeState::agree_on_config() const {
  struct Terms {
    Config config;
    std::int32_t ll_packets_per_row;
    bool refused;
  };
  Terms mine;
  std::memset(static_cast<void*>(&mine), 0, sizeof mine);  // clears padding, which is sent too
  mine.config = config;
  const Support support = supports(config, group->num_ranks());
  mine.refused = !support;
  if (support) mine.ll_packets_per_row = op::shape_of(config, group->num_ranks()).ll_packets_per_row;
  const auto all = memory::all_gather_value(group->sharing().all_gather, group->num_ranks(), mine);
  if (!support) throw ConfigError(text("Exchange on rank ", group->rank(), ": ", support.reason));
  for (int r = 0; r < group->num_ranks(); ++r) {
    if (all[r].refused)
      throw ConfigError(text("Exchange on rank ", group->rank(), ": rank ", r,
                             " refused its config; give every rank the same config"));
    if (all[r].ll_packets_per_row != mine.ll_packets_per_row)
      throw ConfigError(text("Exchange on rank ", group->rank(), ": rank ", r,
                             " has another CROSSDOCK_PACKET_TOKENS; give every rank the same"));
    const std::string what = op::difference(config, all[r].config);
    if (!what.empty())
      throw ConfigError(text("Exchange on rank ", group->rank(), ": the config of rank ", r, " differs: ", what,
                             "; give every rank the same config"));
  }
}

/// Fills metadata with 0xff: rank, token and ids of rows that no dispatch has filled are then -1.
void ExchangeState::mark_empty_rows() {
  platform::Device& device = group->device();
  for (int plan = 0; plan < shape.num_plans; ++plan) {
    const auto mark = [&](std::uint64_t region, std::uint64_t bytes) {
      device.fill(local<std::byte>(arena.plan_at(plan, region)), 0xff, bytes);
    };
    mark(arena.plan.sources, shape.row_capacity * sizeof(RowSource));
    mark(arena.plan.topk_ids, shape.row_capacity * shape.top_k * 4);
    mark(arena.plan.expert_sources, shape.expert_rows * sizeof(RowSource));
  }
}

kernels::Call ExchangeState::call(int buffer_set, int plan) const {
  kernels::Call call{};
  call.peers = memory.peers();
  call.faults = group->faults(&report());
  call.shape = shape;
  call.buffer_set = arena.buffer_set;
  call.plan = arena.plan;
  call.plan_idx = plan;
  call.plan_bytes = static_cast<std::int64_t>(arena.plan_bytes);
  // From offsets in a buffer set or plan to offsets in the arena.
  const auto shift = [](std::uint64_t by) {
    return [by](const char*, std::uint64_t& offset, std::uint64_t, std::uint64_t, const char*) { offset += by; };
  };
  memory::BufferSetRegions::visit(call.buffer_set, shape, shift(arena.buffer_set_at(buffer_set, 0)));
  memory::PlanRegions::visit(call.plan, shape, shift(arena.plan_at(plan, 0)));
  return call;
}

Status ExchangeState::poll() const {
  Status status = group->poll();
  if (status.code != StatusCode::ok) return status;
  // Kernels raise these counters while the host reads. A report stays until clear_status(). The order here is that of
  // priority.
  const sync::ReportRecord& r = report();
  const auto seen = [](const std::uint64_t& word) { return __atomic_load_n(&word, __ATOMIC_ACQUIRE) != 0; };
  const int rank = group->rank();
  if (seen(r.rows_over)) {
    status.code = StatusCode::capacity;
    status.text = text(
        "dispatch on rank ", rank, " received more rows than row_capacity = ", shape.row_capacity, "; ", r.rows_needed,
        " would have sufficed. The rows beyond were dropped, see Counts; raise row_capacity or clear the status");
  } else if (seen(r.expert_rows_over)) {
    status.code = StatusCode::capacity;
    status.text = text("dispatch on rank ", rank, " received more rows than expert_capacity = ", shape.expert_capacity,
                       "; ", r.expert_rows_needed,
                       " would have sufficed. The rows beyond were dropped, see Counts; raise expert_capacity ",
                       "or clear the status");
  } else if (seen(r.bad_ids)) {
    status.code = StatusCode::usage;
    status.text = text("dispatch on rank ", rank, " met ", r.bad_ids, " expert ids outside [-1, ", shape.num_experts,
                       ") and sent nothing for them; pass global expert ids, -1 for not routed, or clear the status");
  } else if (seen(r.tokens_clamped)) {
    status.code = StatusCode::usage;
    status.text = text("dispatch on rank ", rank, " read T = ", static_cast<std::int64_t>(r.last_tokens),
                       " from the device and clamped it to [0, ", shape.max_tokens_per_rank,
                       "]; raise max_tokens_per_rank or clear the status");
  }
  return status;
}

void ExchangeState::clear_status() { std::memset(static_cast<void*>(&report()), 0, sizeof(sync::ReportRecord)); }

void ExchangeState::check(const char* name) const {
  if (closed) throw StateError(text(name, " on rank ", group->rank(), ": the exchange is closed; make a new one"));
  group->check(name);
  const Status status = poll();
  if (status.code != StatusCode::ok) raise(status.code, text(name, " refused: ", status.text));
}

int ExchangeState::take_buffer_set(const char* name) {
  for (int buffer_set = 0; buffer_set < shape.max_in_flight; ++buffer_set)
    if (!buffer_set_busy[buffer_set]) {
      buffer_set_busy[buffer_set] = true;
      return buffer_set;
    }
  throw StateError(text(name, " on rank ", group->rank(), ": ", shape.max_in_flight,
                        " Received are in flight, as many as config.max_in_flight",
                        " admits; combine or destroy one first, or raise max_in_flight"));
}

int ExchangeState::take_plan(bool capturing) {
  int free = -1, fitting = -1;  // one is free: there are max_in_flight + max_kept_plans
  for (int plan = shape.num_plans - 1; plan >= 0; --plan) {
    if (plan_holders[plan] > 0) continue;
    free = plan;
    if ((plan_in_graph[plan] != 0) == capturing) fitting = plan;
  }
  const int plan = fitting >= 0 ? fitting : free;
  if (capturing) plan_in_graph[plan] = true;
  hold_plan(plan);
  return plan;
}

int ExchangeState::buffer_set_for_plan() const {
  for (int buffer_set = 0; buffer_set < shape.max_in_flight; ++buffer_set)
    if (!shape.fused || !buffer_set_busy[buffer_set] || !slots_free[buffer_set]) return buffer_set;
  throw StateError(text("combine on rank ", group->rank(), " along a kept plan: the combine slots of all ",
                        shape.max_in_flight,
                        " Received in flight are handed out; combine or destroy one first, or raise max_in_flight"));
}

int ExchangeState::buffer_set_of_combine_buffer(const void* rows) const {
  if (!shape.zero_copy) return -1;
  for (int buffer_set = 0; buffer_set < shape.max_in_flight; ++buffer_set)
    if (rows == local<void>(arena.buffer_set_at(buffer_set, arena.buffer_set.combine_rows))) return buffer_set;
  return -1;
}

}  // namespace crossdock::detail
