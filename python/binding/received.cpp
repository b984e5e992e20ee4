// SPDX-License-Identifier: Apache-2.0
// Views of what a dispatch delivered, and plans.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "binding.hpp"
#include "enums.hpp"
#include "exchange.hpp"
#include "retired.hpp"

namespace crossdock::python {

namespace nb = nanobind;

namespace {

/// Members of Counts: name, index of the first 64-bit word, number of words.
#define XD_COUNT(member) \
  { #member, offsetof(Counts, member) / 8, sizeof(Counts::member) / 8 }
constexpr struct {
  const char* name;
  std::size_t first, words;
} kCounts[] = {XD_COUNT(num_rows),           XD_COUNT(rows_needed),        XD_COUNT(rows_per_source),
               XD_COUNT(dropped_per_source), XD_COUNT(num_tokens),         XD_COUNT(bad_ids),
               XD_COUNT(expert_rows_needed), XD_COUNT(expert_rows_dropped)};
#undef XD_COUNT

nb::dict counts_fields() {
  nb::dict fields;
  for (const auto& field : kCounts) fields[field.name] = nb::make_tuple(field.first, field.words);
  return fields;
}

struct Viewer {
  Caller caller;
  Framework framework;
  nb::handle owner;

  nb::object operator()(const void* data, Element element, std::initializer_list<std::int64_t> shape) const {
    return make_view(data, element, shape, caller, framework, owner);
  }
};

Viewer viewer_of(const PyReceived& r, const char* what) { return {r.owner().caller(what), r.framework, r.exchange}; }

/// The counts of one dispatch, for crossdock._counts. They may outlive the Received.
struct CountWords {
  static constexpr std::size_t kWords = sizeof(Counts) / 8;
  nb::object exchange, stream;  // `stream` keeps the handle `on` valid
  StreamHandle on;
  const std::int64_t* words;
  Framework framework;

  nb::object view(std::size_t first, std::int64_t length) const {
    const Caller caller = nb::cast<const PyExchange&>(exchange).caller("Counts.view");
    return make_view(words + first, Element::i64, {length}, caller, framework, exchange);
  }
  /// Copies the words to the host, after the dispatch on its own stream. The framework's current stream plays no part.
  std::array<std::int64_t, kWords> read(const char* call) const {
    const Exchange& from = nb::cast<const PyExchange&>(exchange).use(call);
    std::array<std::int64_t, kWords> host;
    PyStream* cpu = nullptr;
    if (nb::try_cast(stream, cpu) && cpu) cpu->synchronize();  // also releases arrays of calls that have run
    nb::gil_scoped_release others_run;
    from.read(host.data(), words, sizeof host, on);
    return host;
  }
};

CountWords count_words_of(const PyReceived& r, const char* what) {
  const auto* words = reinterpret_cast<const std::int64_t*>(r.use(what).counts());
  return {r.exchange, r.stream, r.on, words, r.framework};
}

std::int64_t columns_of(Dtype dtype, std::int64_t hidden) {
  return element_of(dtype) == Element::fp4_pair ? hidden / 2 : hidden;
}

/// Rows in the layout of the config: [capacity, columns], or [experts, capacity, columns].
nb::object by_layout(const PyReceived& r, const char* what, const void* data, Element element, std::int64_t columns) {
  const Received& received = r.use(what);
  const Viewer view = viewer_of(r, what);
  const std::int64_t experts = received.tokens().num_local_experts;
  if (!received.has_experts()) return view(data, element, {received.tokens().row_capacity, columns});
  const ExpertRows rows = received.experts();
  if (!rows.capacity_per_expert) return view(data, element, {rows.num_rows_max, columns});
  return view(data, element, {experts, rows.capacity_per_expert, columns});
}

nb::object rows_of(const PyReceived& r) {
  const Received& received = r.use("Received.rows");
  const Config& config = r.owner().config;
  const void* data = received.has_experts() ? received.experts().rows : received.tokens().rows;
  return by_layout(r, "Received.rows", data, element_of(config.dispatch_dtype),
                   columns_of(config.dispatch_dtype, config.hidden));
}

nb::object weights_of(const PyReceived& r) {
  const Received& received = r.use("Received.weights");
  if (!received.has_experts())
    throw StateError(r.owner().caller("Received.weights").text("weights") +
                     " are one for each row by expert, and the layout is token_major; use topk_weights, [rows, top_k]");
  const ExpertRows rows = received.experts();
  const Viewer view = viewer_of(r, "Received.weights");
  if (!rows.capacity_per_expert) return view(rows.weights, Element::f32, {rows.num_rows_max});
  return view(rows.weights, Element::f32, {received.tokens().num_local_experts, rows.capacity_per_expert});
}

nb::object scales_of(const PyReceived& r) {
  const Received& received = r.use("Received.scales");
  const void* data = received.has_experts() ? received.experts().scales : received.tokens().scales;
  if (!data) return nb::none();
  nb::object bytes = by_layout(r, "Received.scales", data, Element::byte, r.owner().config.scale_bytes);
  return r.scales_dtype.is_none() ? bytes : bytes.attr("view")(r.scales_dtype);
}

nb::object sources_of(const PyReceived& r) {
  const Received& received = r.use("Received.sources");
  return by_layout(r, "Received.sources",
                   received.has_experts() ? received.experts().sources : received.tokens().sources, Element::i32, 4);
}

nb::object combine_buffer_of(const PyReceived& r, nb::handle dtype, nb::handle hidden) {
  const Received& received = r.use("Received.combine_buffer");
  const Config& config = r.owner().config;
  Config wanted = config;
  if (!dtype.is_none())
    wanted.combine_dtype = enum_of<Dtype>(kDtypeNames, nb::cast<std::string>(dtype_name_of(dtype)), "dtype");
  if (!hidden.is_none()) wanted.hidden = nb::cast<std::int32_t>(hidden);
  const CombineBuffer buffer = received.combine_buffer(wanted.combine_dtype, wanted.hidden);
  return by_layout(r, "Received.combine_buffer", buffer.data, element_of(wanted.combine_dtype),
                   columns_of(wanted.combine_dtype, wanted.hidden));
}

nb::object combine_slots_of(const PyReceived& r, int rank) {
  const Config& config = r.owner().config;
  void* data = r.use("Received.combine_slots").combine_slots(rank);
  const std::int64_t rows = std::int64_t{config.max_tokens_per_rank} * config.top_k;
  return viewer_of(r, "Received.combine_slots")(data, element_of(config.combine_dtype),
                                                {rows, columns_of(config.combine_dtype, config.hidden)});
}

std::int64_t num_rows_of(PyReceived& r) {
  return r.known_rows =
             count_words_of(r, "Received.num_rows").read("Received.num_rows")[offsetof(Counts, num_rows) / 8];
}

nb::object topk_ids_of(const PyReceived& r) {
  const TokenRows tokens = r.use("Received.topk_ids").tokens();
  return viewer_of(r, "Received.topk_ids")(tokens.topk_ids, Element::i32,
                                           {tokens.row_capacity, r.owner().config.top_k});
}

nb::object topk_weights_of(const PyReceived& r) {
  const TokenRows tokens = r.use("Received.topk_weights").tokens();
  return viewer_of(r, "Received.topk_weights")(tokens.topk_weights, Element::f32,
                                               {tokens.row_capacity, r.owner().config.top_k});
}

nb::object offsets_of(const PyReceived& r) {
  const Received& received = r.use("Received.offsets");
  return viewer_of(r, "Received.offsets")(received.experts().offsets, Element::i32,
                                          {received.tokens().num_local_experts + 1});
}

nb::object expert_counts_of(const PyReceived& r) {
  const Received& received = r.use("Received.expert_counts");
  return viewer_of(r, "Received.expert_counts")(received.expert_counts(), Element::i32,
                                                {received.tokens().num_local_experts});
}

nb::object counts_of(const PyReceived& r) {
  return nb::module_::import_("crossdock._counts")
      .attr("Counts")(count_words_of(r, "Received.counts"), r.owner().group().num_ranks);
}

nb::object local_ids_of(const PyReceived& r, int sentinel) {
  const TokenRows tokens = r.use("Received.local_ids").tokens();
  if (r.framework == Framework::dlpack)
    throw UsageError(
        r.owner().caller("Received.local_ids").text("topk_ids") +
        " are neither torch's nor numpy's, and only arrays of these are made here; subtract first_expert, " +
        std::to_string(tokens.first_expert) + ", from `topk_ids` in your framework");
  return nb::module_::import_("crossdock._views")
      .attr("local_ids")(topk_ids_of(r), tokens.first_expert, tokens.num_local_experts, sentinel);
}

PyPlan* retain_plan(PyReceived& r) {
  r.use("Received.retain_plan");
  return new PyPlan{r.exchange, r.received->retain_plan(), r.framework, r.num_tokens, next_id()};
}

}  // namespace

const PyExchange& PyReceived::owner() const { return nb::cast<const PyExchange&>(exchange); }

const Received& PyReceived::use(const char* what) const {
  owner().group().check(what);
  if (!received)
    throw StateError(std::string(what) + " on rank " + std::to_string(owner().group().rank) +
                     ": this Received was combined before, and its rows belong to the next dispatch; use it earlier, "
                     "or copy what you keep");
  return *received;
}

const Plan& PyPlan::use(const char* what) const {
  const PyExchange& owner = nb::cast<const PyExchange&>(exchange);
  owner.group().check(what);
  if (!plan)
    throw StateError(std::string(what) + " on rank " + std::to_string(owner.group().rank) + ": the plan was released");
  return *plan;
}

namespace {

void bind_arrays(nb::class_<PyReceived>& type) {
  type.def_prop_ro(
          "rows", &rows_of, nb::sig("def rows(self) -> typing.Any"),
          "[row_capacity, hidden]; expert_major: [local experts, capacity, hidden]; contiguous: [capacity, hidden].")
      .def_prop_ro("scales", &scales_of, nb::sig("def scales(self) -> typing.Any"),
                   "[..., scale_bytes] beside `rows`, seen as the dtype that was sent; None without scale_bytes.")
      .def_prop_ro("weights", &weights_of, nb::sig("def weights(self) -> typing.Any"),
                   "Layouts by expert: float32 beside `rows`, the routing weight of each row; 0 beyond the count and "
                   "on padding. "
                   "StateError for token_major, whose weights are topk_weights.")
      .def_prop_ro(
          "sources", &sources_of, nb::sig("def sources(self) -> typing.Any"),
          "[..., 4] int32 beside `rows`: home rank, token there, combine slot, 0. Rank and token are -1 beyond "
          "the count.")
      .def_prop_ro(
          "topk_ids", &topk_ids_of, nb::sig("def topk_ids(self) -> typing.Any"),
          "[row_capacity, top_k] int32 global ids of the received tokens, in every layout; -1 beyond the count.")
      .def_prop_ro("topk_weights", &topk_weights_of, nb::sig("def topk_weights(self) -> typing.Any"),
                   "[row_capacity, top_k] float32 beside `topk_ids`, in every layout; 0 beyond the count.")
      .def_prop_ro("offsets", &offsets_of, nb::sig("def offsets(self) -> typing.Any"),
                   "[local experts + 1] int32: first row of each expert. StateError for token_major.")
      .def_prop_ro("expert_counts", &expert_counts_of, nb::sig("def expert_counts(self) -> typing.Any"),
                   "[local experts] int32: kept (token, expert) pairs, repeated ids once.")
      .def_prop_ro("counts", &counts_of, "All counts on the device, by name; `.host()` waits and gives a dict.")
      .def_prop_ro("num_rows", &num_rows_of, "Received rows as an int. Waits for the dispatch: not for graphs.")
      .def_prop_ro(
          "first_expert", [](const PyReceived& r) { return r.use("Received.first_expert").tokens().first_expert; },
          "Global id of this rank's first expert.")
      .def_prop_ro(
          "num_local_experts",
          [](const PyReceived& r) { return r.use("Received.num_local_experts").tokens().num_local_experts; },
          "Experts of this rank.")
      .def_prop_ro(
          "row_capacity", [](const PyReceived& r) { return r.use("Received.row_capacity").tokens().row_capacity; },
          "Received tokens that there is room for: rows of `topk_ids`.")
      .def_prop_ro(
          "num_tokens", [](const PyReceived& r) { return r.num_tokens; },
          "T of this rank; -1 if it is a word on the device.")
      .def_prop_ro(
          "exchange", [](const PyReceived& r) { return r.exchange; }, nb::sig("def exchange(self) -> Exchange"),
          "The exchange that dispatched it.")
      .def_prop_ro(
          "consumed", [](const PyReceived& r) { return !r.received; }, "Whether a combine has consumed it.");
}

void bind_forms(nb::class_<PyReceived>& type) {
  type.def("combine_buffer", &combine_buffer_of, nb::arg("dtype") = nb::none(), nb::arg("hidden") = nb::none(),
           nb::sig("def combine_buffer(self, dtype: typing.Any = None, hidden: int | None = None) -> typing.Any"),
           "The library's buffer for expert outputs (config.zero_copy), as rows of `dtype` and `hidden`, by default "
           "the config's.")
      .def(
          "local_ids", &local_ids_of, nb::arg("sentinel") = -1,
          nb::sig("def local_ids(self, sentinel: int = -1) -> typing.Any"),
          "`topk_ids` counted from this rank's first expert, `sentinel` for other ranks' experts and beyond the count: "
          "a new array.")
      .def(
          "combine_slots", &combine_slots_of, nb::arg("rank"),
          nb::sig("def combine_slots(self, rank: int) -> typing.Any"),
          "[max_tokens_per_rank * top_k, hidden] of home rank `rank`, writable by kernels of this rank (config.fused).")
      .def("retain_plan", &retain_plan, nb::rv_policy::take_ownership,
           "The routing, kept: a Plan, which may outlive this object. StateError when config.max_kept_plans are kept, "
           "or "
           "called twice.")
      .def("__getattr__", [](const PyReceived&, const std::string& name) { refuse_attribute("Received", name); });
}

void bind_plan(nb::module_& module) {
  nb::class_<PyPlan>(module, "Plan", nb::is_weak_referenceable(),
                     "A kept routing: dispatch(x, plan=...) sends other rows along it, combine(plan, ...) brings rows "
                     "back, any number of times.")
      .def_prop_ro(
          "id", [](const PyPlan& p) { return p.id; }, "A number of this process, for custom operators.")
      .def_prop_ro(
          "num_tokens", [](const PyPlan& p) { return p.num_tokens; },
          "T of this rank; -1 if it is a word on the device.")
      .def_prop_ro(
          "exchange", [](const PyPlan& p) { return p.exchange; }, nb::sig("def exchange(self) -> Exchange"),
          "The exchange it routes for.")
      .def(
          "release", [](PyPlan& p) { p.plan.reset(); }, "Gives the routing's memory back now; local, legal twice.");
}

}  // namespace

void bind_received(nb::module_& module) {
  module.attr("_COUNTS") = counts_fields();
  module.attr("_COUNT_WORDS") = CountWords::kWords;
  nb::class_<CountWords>(module, "_CountWords", "What Counts are made of.")
      .def("view", &CountWords::view, nb::arg("first"), nb::arg("length"),
           nb::sig("def view(self, first: int, length: int) -> typing.Any"), "An array over some of the words.")
      .def(
          "read", [](const CountWords& words) { return words.read("Counts.host"); }, "All words, behind the dispatch.");
  nb::class_<PyReceived> type(module, "Received", nb::is_weak_referenceable(),
                              R"(One use of the receive rows: what a dispatch delivered to this rank.

Every array is a view of the library's memory, valid in stream order until the next dispatch that uses the same memory, which comes
after combine has consumed this object or after it was collected. A consumed Received raises StateError; its views keep the memory alive, not the
content. Arrays come in the framework of the dispatch's rows.)");
  bind_arrays(type);
  bind_forms(type);
  bind_plan(module);
}

}  // namespace crossdock::python
