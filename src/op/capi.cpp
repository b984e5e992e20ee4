// SPDX-License-Identifier: Apache-2.0
// The C interface, the only place where exceptions become status codes.

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "crossdock/crossdock.h"
#include "crossdock/crossdock.hpp"
#include "op/config_members.hpp"
#include "op/text.hpp"

struct xd_thread_team {
  crossdock::ThreadTeam team;
};
struct xd_group {
  crossdock::Group group;
};
struct xd_exchange {
  crossdock::Exchange exchange;
};
struct xd_received {
  crossdock::Received received;
};
struct xd_plan {
  crossdock::Plan plan;
};

namespace {

using namespace crossdock;
using op::text;

/// The text of the last failure in this thread. Where there is no memory for it, `fixed` is.
struct LastError {
  std::string text;
  const char* fixed = nullptr;

  void set(const char* what) noexcept {
    fixed = nullptr;
    try {
      text = what;
    } catch (const std::bad_alloc&) {
      fixed = "out of memory on the host, also for the text of the error";
    }
  }
  void set_fixed(const char* what) noexcept { fixed = what; }
  const char* get() const noexcept { return fixed ? fixed : text.c_str(); }
};
thread_local LastError last_error;

// Structs and enumerators are cast between C and C++. Both enumerations come from lists.h, so the last members stand
// for all.
static_assert(sizeof(xd_counts) == sizeof(Counts) && sizeof(xd_row_source) == sizeof(RowSource));
static_assert(static_cast<int>(XD_STATUS_SYSTEM) == static_cast<int>(StatusCode::system));
static_assert(static_cast<int>(XD_FP4_E2M1) == static_cast<int>(Dtype::fp4_e2m1));

/// Runs `body`. An exception becomes its status code, and its text that of xd_last_error().
template <class Body>
xd_status guarded(Body&& body) noexcept {
  try {
    body();
    return XD_STATUS_OK;
  } catch (const Error& error) {
    last_error.set(error.what());
    return static_cast<xd_status>(error.code());
  } catch (const std::bad_alloc&) {
    last_error.set_fixed("out of memory on the host");
  } catch (const std::exception& error) {
    last_error.set(error.what());
  } catch (...) {
    last_error.set_fixed("an exception of an unknown type");
  }
  return XD_STATUS_SYSTEM;
}

/// What a required pointer points to. UsageError if it is null.
template <class T>
T& given(T* pointer, const char* call, const char* name) {
  if (!pointer) throw UsageError(text(call, ": ", name, " is null"));
  return *pointer;
}

/// The struct that a required pointer points to. UsageError if its `size`, which XD_INIT sets, is another version's.
template <class T>
const T& sized(const T* value, const char* call, const char* name) {
  if (given(value, call, name).size != sizeof(T))
    throw UsageError(
        text(call, ": ", name, ".size = ", value->size, "; this version takes ", sizeof(T), ", set it with XD_INIT"));
  return *value;
}

template <class E>
E enumerator(std::int32_t value, int count, const char* name) {
  if (value < 0 || value >= count) throw UsageError(text(name, " = ", value, "; must be 0 to ", count - 1));
  return static_cast<E>(value);
}

// Copies a member of xd_config into Config. A bool is true unless 0. UsageError if an enumerator is out of range.
template <class T>
void take(T& to, T value, const char*) {
  to = value;
}
void take(bool& to, std::int32_t value, const char*) { to = value != 0; }
void take(Dtype& to, std::int32_t value, const char* name) { to = enumerator<Dtype>(value, XD_NUM_DTYPES, name); }
void take(CombineQuant& to, std::int32_t value, const char* name) {
  to = enumerator<CombineQuant>(value, XD_NUM_COMBINE_QUANTS, name);
}
void take(Layout& to, std::int32_t value, const char* name) { to = enumerator<Layout>(value, XD_NUM_LAYOUTS, name); }
void take(Overflow& to, std::int32_t value, const char* name) {
  to = enumerator<Overflow>(value, XD_NUM_OVERFLOWS, name);
}

Config config_of(const xd_config* given_config, const char* call) {
  const xd_config& c = sized(given_config, call, "config");
  Config config;  // members that xd_config lacks (XD_LEAVE) keep their defaults
#define XD_TAKE(member) take(config.member, c.member, "config." #member);
#define XD_LEAVE(member)
  XD_CONFIG_MEMBERS(XD_TAKE, XD_LEAVE)
#undef XD_TAKE
#undef XD_LEAVE
  if (c.alignment == 0) config.alignment = 1;
  if (c.max_in_flight == 0) config.max_in_flight = 1;
  return config;
}

GroupOptions options_of(const xd_group_options* given_options, const char* call) {
  GroupOptions options;
  if (!given_options) return options;
  const xd_group_options& o = sized(given_options, call, "options");
  options.backend = enumerator<BackendKind>(o.backend, XD_NUM_BACKENDS, "options.backend");
  if (o.choose_device) options.device = o.device;
  if (o.tuning_file) options.tuning_file = o.tuning_file;
  if (o.max_concurrent_calls) options.max_concurrent_calls = o.max_concurrent_calls;
  if (o.choose_reserved_sms) options.reserved_sms = std::max(0, o.reserved_sms);
  if (o.deadline_ms) options.deadline = std::chrono::milliseconds(std::max<std::int64_t>(0, o.deadline_ms));
  return options;
}

DispatchInput input_of(const xd_dispatch_input& in) {
  return {in.tokens, in.topk_ids,   in.topk_ids_are_int64 != 0, in.topk_weights,
          in.scales, in.num_tokens, in.num_tokens_on_device};
}

/// `Input` is xd_dispatch_input or xd_combine_input.
template <class Input>
CallOptions options_of(const Input& in) {
  return {in.stream, in.num_sms, in.num_blocks, in.num_warps, in.splits_per_row};
}

template <class T>
void destroy(T* handle) {
  (void)guarded([&] { delete handle; });
}

}  // namespace

extern "C" {

const char* xd_last_error(void) { return last_error.get(); }
const char* xd_version(void) { return version(); }

xd_status xd_thread_team_create(int32_t num_ranks, xd_thread_team** team) {
  return guarded([&] {
    given(team, "xd_thread_team_create", "team");
    *team = new xd_thread_team{ThreadTeam(num_ranks)};
  });
}
void xd_thread_team_destroy(xd_thread_team* team) { destroy(team); }

xd_status xd_group_join_thread_team(const xd_thread_team* team, int32_t rank, const xd_group_options* options,
                                    xd_group** group) {
  constexpr const char* call = "xd_group_join_thread_team";
  return guarded([&] {
    given(group, call, "group");
    *group = new xd_group{Group::join(given(team, call, "team").team, rank, options_of(options, call))};
  });
}

xd_status xd_group_join(int32_t rank, int32_t num_ranks, xd_all_gather all_gather, void* user,
                        const xd_group_options* options, xd_group** group) {
  constexpr const char* call = "xd_group_join";
  return guarded([&] {
    given(group, call, "group");
    if (!all_gather) throw UsageError(text(call, ": all_gather is null"));
    const AllGather gather = [=](const void* mine, std::size_t bytes, void* all) {
      if (const int code = all_gather(mine, bytes, all, user))
        throw SystemError(text(call, " on rank ", rank, ": the all_gather callback returned ", code));
    };
    *group = new xd_group{Group::join(rank, num_ranks, gather, options_of(options, call))};
  });
}

xd_status xd_group_rendezvous(const char* name, int32_t rank, int32_t num_ranks, const xd_group_options* options,
                              xd_group** group) {
  constexpr const char* call = "xd_group_rendezvous";
  return guarded([&] {
    given(group, call, "group");
    given(name, call, "name");
    *group = new xd_group{Group::rendezvous(name, rank, num_ranks, options_of(options, call))};
  });
}

xd_status xd_group_abort(xd_group* group, const char* reason) {
  return guarded([&] { given(group, "xd_group_abort", "group").group.abort(reason ? reason : ""); });
}
xd_status xd_group_set_deadline(xd_group* group, int64_t deadline_ms) {
  return guarded([&] {
    given(group, "xd_group_set_deadline", "group").group.set_deadline(std::chrono::milliseconds(deadline_ms));
  });
}
void xd_group_destroy(xd_group* group) { destroy(group); }

xd_status xd_supports(const xd_config* config, int32_t num_ranks) {
  return guarded([&] {
    const Support support = supports(config_of(config, "xd_supports"), num_ranks);
    if (!support) throw ConfigError(support.reason);
  });
}

xd_status xd_memory(const xd_config* config, int32_t num_ranks, int32_t backend, uint64_t* bytes) {
  constexpr const char* call = "xd_memory";
  return guarded([&] {
    given(bytes, call, "bytes") =
        memory_of(config_of(config, call), num_ranks, enumerator<BackendKind>(backend, XD_NUM_BACKENDS, "backend"))
            .total_bytes;
  });
}

xd_status xd_exchange_create(xd_group* group, const xd_config* config, xd_exchange** exchange) {
  constexpr const char* call = "xd_exchange_create";
  return guarded([&] {
    given(exchange, call, "exchange");
    *exchange = new xd_exchange{Exchange(given(group, call, "group").group, config_of(config, call))};
  });
}

xd_status xd_exchange_poll(xd_exchange* exchange, int32_t clear, xd_report* report) {
  constexpr const char* call = "xd_exchange_poll";
  return guarded([&] {
    Exchange& e = given(exchange, call, "exchange").exchange;
    sized(report, call, "report");
    const Status status = e.poll();
    report->code = static_cast<int32_t>(status.code);
    report->rank = status.rank;
    report->peer = status.peer;
    report->epoch_expected = status.epoch_expected;
    report->epoch_seen = status.epoch_seen;
    report->fatal = status.fatal;
    const std::size_t length = std::min(status.text.size(), sizeof report->text - 1);
    std::memcpy(report->text, status.text.data(), length);
    report->text[length] = 0;
    if (clear) e.clear_status();
  });
}
void xd_exchange_destroy(xd_exchange* exchange) { destroy(exchange); }

xd_status xd_dispatch(xd_exchange* exchange, const xd_plan* plan, const xd_dispatch_input* input,
                      xd_received** received) {
  constexpr const char* call = "xd_dispatch";
  return guarded([&] {
    Exchange& e = given(exchange, call, "exchange").exchange;
    const xd_dispatch_input& in = sized(input, call, "input");
    given(received, call, "received");
    const CallOptions options = options_of(in);
    *received =
        new xd_received{plan ? e.dispatch(plan->plan, input_of(in), options) : e.dispatch(input_of(in), options)};
  });
}

xd_status xd_combine(xd_exchange* exchange, xd_received** received, const xd_plan* plan,
                     const xd_combine_input* input) {
  constexpr const char* call = "xd_combine";
  return guarded([&] {
    Exchange& e = given(exchange, call, "exchange").exchange;
    const xd_combine_input& in = sized(input, call, "input");
    if ((plan != nullptr) == (received != nullptr && *received != nullptr))
      throw UsageError(text(call, ": pass either received or plan, not both and not neither"));
    const CombineInput from{in.rows, in.combine_topk_weights != 0, in.topk_weights};
    const CombineOutput to{in.out_rows, in.out_topk_weights};
    const CallOptions options = options_of(in);
    if (plan) return e.combine(plan->plan, from, to, options);
    e.combine(std::move((*received)->received), from, to, options);
    delete std::exchange(*received, nullptr);
  });
}

xd_status xd_combine_fused(xd_exchange* exchange, xd_received** received, const xd_combine_input* input) {
  constexpr const char* call = "xd_combine_fused";
  return guarded([&] {
    Exchange& e = given(exchange, call, "exchange").exchange;
    const xd_combine_input& in = sized(input, call, "input");
    given(given(received, call, "received"), call, "*received");
    e.combine_fused(std::move((*received)->received), {in.out_rows, in.out_topk_weights}, in.num_tokens,
                    options_of(in));
    delete std::exchange(*received, nullptr);
  });
}

xd_status xd_received_view(const xd_received* received, xd_view* view) {
  constexpr const char* call = "xd_received_view";
  return guarded([&] {
    const Received& r = given(received, call, "received").received;
    sized(view, call, "view");
    const TokenRows t = r.tokens();
    // Members in the order of xd_view. Parts that the config lacks stay null: their getters would throw.
    *view = {sizeof(xd_view),
             t.rows,
             t.scales,
             t.topk_ids,
             t.topk_weights,
             reinterpret_cast<const xd_row_source*>(t.sources),
             t.row_capacity,
             t.first_expert,
             t.num_local_experts,
             r.counts(),
             r.expert_counts(),
             nullptr,
             nullptr,
             nullptr,
             nullptr,
             nullptr,
             0,
             0,
             nullptr,
             0};
    if (r.has_experts()) {
      const ExpertRows x = r.experts();
      view->expert_rows = x.rows;
      view->expert_scales = x.scales;
      view->expert_weights = x.weights;
      view->expert_sources = reinterpret_cast<const xd_row_source*>(x.sources);
      view->expert_offsets = x.offsets;
      view->expert_rows_max = x.num_rows_max;
      view->expert_capacity = x.capacity_per_expert;
    }
    if (r.has_combine_buffer()) {
      const CombineBuffer b = r.combine_buffer();
      view->combine_rows = b.data;
      view->combine_rows_max = b.num_rows;
    }
  });
}

xd_status xd_received_combine_slots(const xd_received* received, int32_t rank, void** rows) {
  constexpr const char* call = "xd_received_combine_slots";
  return guarded([&] { given(rows, call, "rows") = given(received, call, "received").received.combine_slots(rank); });
}

xd_status xd_received_retain_plan(xd_received* received, xd_plan** plan) {
  constexpr const char* call = "xd_received_retain_plan";
  return guarded([&] {
    given(plan, call, "plan");
    *plan = new xd_plan{given(received, call, "received").received.retain_plan()};
  });
}
void xd_received_destroy(xd_received* received) { destroy(received); }
void xd_plan_destroy(xd_plan* plan) { destroy(plan); }

}  // extern "C"
