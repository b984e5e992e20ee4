// SPDX-License-Identifier: Apache-2.0
// Exchange in Python: signatures, defaults, docstrings.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "arguments.hpp"
#include "binding.hpp"
#include "exchange.hpp"
#include "retired.hpp"

namespace crossdock::python {

namespace nb = nanobind;

namespace {

nb::str name_text(std::string_view name) { return nb::str(name.data(), name.size()); }

nb::list trace_of(const Exchange& exchange) {
  const nb::object trace_event = result_class("TraceEvent");
  nb::list events;
  for (const TraceEvent& event : exchange.trace())
    events.append(trace_event(event.time_ns, event.epoch, event.block, event.peer, event.buffer_set,
                              name_text(name_of(event.phase)), event.combine ? "combine" : "dispatch"));
  return events;
}

nb::object launch_of(const Exchange& exchange) {
  const LaunchInfo launch = exchange.last_launch();
  return result_class("LaunchInfo")(launch.num_blocks, launch.num_warps, launch.splits_per_row,
                                    name_text(name_of(launch.tuned_by)), launch.num_waiting_blocks);
}

constexpr const char* kDispatch =
    R"(Routes and sends the tokens of this rank. Enqueues on the stream and returns; all ranks call it, with 0 tokens too.

x             [T, hidden] of config.dispatch_dtype, one row a token (fp4: [T, hidden / 2] pairs; fp8 and fp4 also as uint8
              bytes); None: T = 0
topk_ids      [T, top_k] int32 or int64, global expert ids, -1 = not routed; not read with a plan
topk_weights  [T, top_k] float32; None: each weight is 1; not read with a plan
scales        [T, ...] of config.scale_bytes bytes a row
plan          a kept Plan: other tokens along the same routing
num_tokens    T as an int, or as one int32 word on the device, read when the call runs
stream        None: torch's current stream, or that of the innermost `with CpuStream()`; else a stream or its handle
num_sms, num_blocks, num_warps, splits_per_row   upper bound on thread blocks of every kernel of the call; blocks, warps of a
              block and parts of a row in the kernel that crosses the link. 0: the config's, else from a tuning file, else the
              library's rule. Results never depend on it

Returns a Received. Raises UsageError, StateError (too many in flight), CapacityError, PeerLostError, AbortedError; then nothing was
enqueued. Arrays are read when the call runs: on a GPU in stream order, as by any kernel of torch.)";

constexpr const char* kCombine =
    R"(Brings expert outputs home and sums them: out[t] = sum over the ranks that kept token t, in float32, rounded once.

routing       the Received of a dispatch, which is consumed, or a kept Plan
rows          expert outputs of config.combine_dtype, in the layout of the config and to its capacity; may be received.rows itself
out           [T, hidden] of config.combine_dtype, written in place; None: a new array
topk_weights  [row_capacity, top_k] float32 rows to sum for the second result; combine_topk_weights=True: the dispatched ones
out_topk_weights   [T, top_k] float32 for the second result; None: a new array
add           what is added to out afterwards, by the framework: a residual, a bias, the shared experts' output
stream, num_sms, num_blocks, num_warps, splits_per_row   as in dispatch

Returns out, or (out, out_topk_weights) if the second result was asked for (config.combine_topk_weights). Raises as dispatch does; the
Received is consumed unless it raised.)";

void bind_dispatch(nb::class_<PyExchange>& type) {
  type.def(
      "dispatch",
      [](nb::handle self, nb::object x, nb::object topk_ids, nb::object topk_weights, nb::object scales,
         nb::object plan, nb::object num_tokens, nb::object stream, nb::object num_sms, nb::object num_blocks,
         nb::object num_warps, nb::object splits_per_row, nb::kwargs unknown) {
        refuse_arguments("dispatch", unknown);
        return nb::cast<PyExchange&>(self).dispatch(
            self, {std::move(x),
                   std::move(topk_ids),
                   std::move(topk_weights),
                   std::move(scales),
                   std::move(plan),
                   std::move(num_tokens),
                   std::move(stream),
                   {std::move(num_sms), std::move(num_blocks), std::move(num_warps), std::move(splits_per_row)}});
      },
      nb::arg("x") = nb::none(), nb::arg("topk_ids") = nb::none(), nb::arg("topk_weights") = nb::none(),
      nb::arg("scales") = nb::none(), nb::kw_only(), nb::arg("plan") = nb::none(), nb::arg("num_tokens") = nb::none(),
      nb::arg("stream") = nb::none(), nb::arg("num_sms").none() = 0, nb::arg("num_blocks").none() = 0,
      nb::arg("num_warps").none() = 0, nb::arg("splits_per_row").none() = 0, nb::arg("unknown"),
      nb::sig("def dispatch(self, x: typing.Any = None, topk_ids: typing.Any = None, topk_weights: typing.Any = None, "
              "scales: typing.Any = None, *, plan: Plan | None = None, num_tokens: typing.Any = None, "
              "stream: typing.Any = None, num_sms: int = 0, num_blocks: int = 0, num_warps: int = 0, "
              "splits_per_row: int = 0) -> Received"),
      kDispatch);
}

void bind_combine(nb::class_<PyExchange>& type) {
  type.def(
      "combine",
      [](PyExchange& self, nb::object routing, nb::object rows, nb::object out, nb::object topk_weights,
         bool combine_topk_weights, nb::object out_topk_weights, nb::object add, nb::object stream, nb::object num_sms,
         nb::object num_blocks, nb::object num_warps, nb::object splits_per_row, nb::kwargs unknown) {
        refuse_arguments("combine", unknown);
        return self.combine(
            {std::move(routing),
             std::move(rows),
             std::move(out),
             std::move(topk_weights),
             std::move(out_topk_weights),
             std::move(add),
             nb::none(),
             std::move(stream),
             combine_topk_weights,
             {std::move(num_sms), std::move(num_blocks), std::move(num_warps), std::move(splits_per_row)}});
      },
      nb::arg("routing").none(), nb::arg("rows").none(), nb::kw_only(), nb::arg("out") = nb::none(),
      nb::arg("topk_weights") = nb::none(), nb::arg("combine_topk_weights") = false,
      nb::arg("out_topk_weights") = nb::none(), nb::arg("add") = nb::none(), nb::arg("stream") = nb::none(),
      nb::arg("num_sms").none() = 0, nb::arg("num_blocks").none() = 0, nb::arg("num_warps").none() = 0,
      nb::arg("splits_per_row").none() = 0, nb::arg("unknown"),
      nb::sig(
          "def combine(self, routing: Received | Plan, rows: typing.Any, *, out: typing.Any = None, "
          "topk_weights: typing.Any = None, combine_topk_weights: bool = False, out_topk_weights: typing.Any = None, "
          "add: typing.Any = None, stream: typing.Any = None, num_sms: int = 0, num_blocks: int = 0, "
          "num_warps: int = 0, splits_per_row: int = 0) -> typing.Any"),
      kCombine);
}

void bind_combine_fused(nb::class_<PyExchange>& type) {
  type.def(
      "combine_fused",
      [](PyExchange& self, nb::object received, nb::object out, nb::object num_tokens, bool combine_topk_weights,
         nb::object out_topk_weights, nb::object stream, nb::object num_sms, nb::object num_blocks,
         nb::object num_warps, nb::object splits_per_row, nb::kwargs unknown) {
        refuse_arguments("combine_fused", unknown);
        return self.combine_fused(
            {std::move(received),
             nb::none(),
             std::move(out),
             nb::none(),
             std::move(out_topk_weights),
             nb::none(),
             std::move(num_tokens),
             std::move(stream),
             combine_topk_weights,
             {std::move(num_sms), std::move(num_blocks), std::move(num_warps), std::move(splits_per_row)}});
      },
      nb::arg("received").none(), nb::kw_only(), nb::arg("out") = nb::none(), nb::arg("num_tokens") = nb::none(),
      nb::arg("combine_topk_weights") = false, nb::arg("out_topk_weights") = nb::none(), nb::arg("stream") = nb::none(),
      nb::arg("num_sms").none() = 0, nb::arg("num_blocks").none() = 0, nb::arg("num_warps").none() = 0,
      nb::arg("splits_per_row").none() = 0, nb::arg("unknown"),
      nb::sig("def combine_fused(self, received: Received, *, out: typing.Any = None, num_tokens: int | None = None, "
              "combine_topk_weights: bool = False, out_topk_weights: typing.Any = None, stream: typing.Any = None, "
              "num_sms: int = 0, num_blocks: int = 0, num_warps: int = 0, splits_per_row: int = 0) -> typing.Any"),
      R"(Sums combine slots that kernels of the group have written (config.fused): out[t] = sum over j of row t * top_k + j.

received    the Received whose combine slots were written; consumed
num_tokens  T as an int; None: that of the dispatch
out, combine_topk_weights, out_topk_weights, stream, num_sms, num_blocks, num_warps, splits_per_row   as in combine

Returns and raises as combine does.)");
}

}  // namespace

void bind_exchange(nb::module_& module) {
  nb::class_<PyExchange> type(module, "Exchange", nb::is_weak_referenceable(),
                              R"(One kind of exchange on a group: the memory of a Config, and the two operators.

Exchange(group, config, debug=False): collective. debug=True fills rows and scales of a consumed or dropped Received, and the
combine slots that combine_fused has summed, with 0xff bytes (NaN in every float type but fp4), in stream order, so that a view used too
late shows at once. Counts, ids, sources and weights are not filled: the next call reads them.)");
  type.def(
      "__init__",
      [](PyExchange* self, nb::object group, nb::object config, bool debug) {
        new (self) PyExchange(std::move(group), config_of("Exchange", config), debug);
      },
      nb::arg("group").none(), nb::arg("config").none(), nb::arg("debug") = false,
      nb::sig("def __init__(self, group: GroupBase, config: Config, debug: bool = False) -> None"));
  bind_dispatch(type);
  bind_combine(type);
  bind_combine_fused(type);
  type.def_prop_ro(
      "group", [](const PyExchange& e) { return e.group_object; }, "The group it was made on.");
  type.def_prop_ro(
      "config", [](const PyExchange& e) { return e.config; }, "The Config it was made of.");
  type.def_prop_ro(
      "id", [](const PyExchange& e) { return e.id; }, "A number of this process, for custom operators.");
  type.def_prop_ro(
      "allocated_bytes", [](const PyExchange& e) { return e.use("Exchange.allocated_bytes").memory().total_bytes; },
      "Bytes that this rank has allocated: the total of Config.memory.");
  type.def(
      "trace", [](const PyExchange& e) { return trace_of(e.use("Exchange.trace")); },
      nb::sig("def trace(self) -> list[TraceEvent]"),
      "The newest time stamps (config.trace_events), oldest first. Synchronise before.");
  type.def_prop_ro(
      "last_launch", [](const PyExchange& e) { return launch_of(e.use("Exchange.last_launch")); },
      nb::sig("def last_launch(self) -> LaunchInfo"),
      "Geometry of the newest call, and whether call, config, file or rule chose it; zeros before the first.");
  type.def(
      "poll", [](const PyExchange& e) { return status_of(e.use("Exchange.poll").poll()); },
      nb::sig("def poll(self) -> Status"),
      "The failure of the group, else the first report of this exchange that was not cleared. Never waits.");
  type.def(
      "clear_status", [](const PyExchange& e) { e.use("Exchange.clear_status").clear_status(); },
      "Forgets a report that is not fatal.");
  type.def("close", &PyExchange::close,
           "Local, legal twice; memory lives on while calls under way, views of it or peers may use it.");
  type.def(
      "__enter__", [](nb::object self) { return self; }, nb::sig("def __enter__(self) -> Exchange"));
  type.def("__exit__", [](PyExchange& e, nb::args) { e.close(); });
  bind_received(module);
}

}  // namespace crossdock::python
