// SPDX-License-Identifier: Apache-2.0
// Config in Python: immutable, hashable, made from keyword arguments, with methods for support, memory and shapes.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>

#include "crossdock/config.hpp"

#include "arguments.hpp"
#include "binding.hpp"
#include "enums.hpp"
#include "retired.hpp"

namespace crossdock::python {
namespace {

namespace nb = nanobind;

/// Calls v(name, member) for every member of Config; for an enumeration v(name, member, names of its values).
template <class Visitor>
void visit(Visitor&& v) {
  v("hidden", &Config::hidden);
  v("num_experts", &Config::num_experts);
  v("top_k", &Config::top_k);
  v("max_tokens_per_rank", &Config::max_tokens_per_rank);
  v("dispatch_dtype", &Config::dispatch_dtype, kDtypeNames);
  v("combine_dtype", &Config::combine_dtype, kDtypeNames);
  v("combine_quant", &Config::combine_quant, kCombineQuantNames);
  v("scale_bytes", &Config::scale_bytes);
  v("layout", &Config::layout, kLayoutNames);
  v("row_capacity", &Config::row_capacity);
  v("expert_capacity", &Config::expert_capacity);
  v("alignment", &Config::alignment);
  v("zero_padding", &Config::zero_padding);
  v("overflow", &Config::overflow, kOverflowNames);
  v("zero_copy", &Config::zero_copy);
  v("fused", &Config::fused);
  v("combine_topk_weights", &Config::combine_topk_weights);
  v("max_in_flight", &Config::max_in_flight);
  v("max_kept_plans", &Config::max_kept_plans);
  v("trace_events", &Config::trace_events);
  v("num_sms", &Config::num_sms);
  v("num_blocks", &Config::num_blocks);
  v("num_warps", &Config::num_warps);
  v("splits_per_row", &Config::splits_per_row);
}

struct Set {
  Config& config;
  const char* name;
  nb::handle value;
  bool found = false;

  template <class T>
  void operator()(const char* member, T Config::*pointer) {
    if (std::string_view(member) != name) return;
    config.*pointer = integer_of<T>(std::string("Config: ") + name, value);
    found = true;
  }
  template <class T, std::size_t kCount>
  void operator()(const char* member, T Config::*pointer, const std::string_view (&names)[kCount]) {
    if (std::string_view(member) != name) return;
    const nb::object text = std::is_same_v<T, Dtype> ? nb::borrow(dtype_name_of(value)) : nb::borrow(value);
    if (!nb::isinstance<nb::str>(text))
      throw UsageError(std::string("Config: ") + name + " = " + nb::repr(value).c_str() + "; must be a name");
    if constexpr (std::is_same_v<T, CombineQuant>) refuse_old_quant(nb::cast<std::string>(text));
    config.*pointer = enum_of<T>(names, nb::cast<std::string>(text), name);
    found = true;
  }
};

struct Get {
  const Config& config;
  nb::dict out;

  template <class T>
  void operator()(const char* member, T Config::*pointer) {
    out[member] = nb::cast(config.*pointer);
  }
  template <class T, std::size_t kCount>
  void operator()(const char* member, T Config::*pointer, const std::string_view (&names)[kCount]) {
    const std::string_view name = names[static_cast<int>(config.*pointer)];
    out[member] = nb::str(name.data(), name.size());
  }
};

void set_members(Config& config, nb::kwargs members) {
  for (const auto [key, value] : members) {
    const std::string name = nb::cast<std::string>(key);
    Set set{config, name.c_str(), value};
    visit([&](auto&&... member) { set(member...); });
    if (set.found) continue;
    refuse_old_member(name);
    throw UsageError("Config: no member `" + name + "`; see help(crossdock.Config)");
  }
}

/// UsageError if a member without a default is missing. Old names are refused first, because the missing member may
/// have been given by its old name.
void require_members(nb::kwargs members) {
  std::string missing;
  for (const char* name : {"hidden", "num_experts", "top_k", "max_tokens_per_rank"})
    if (!members.contains(name)) missing += std::string(missing.empty() ? "" : ", ") + name;
  if (missing.empty()) return;
  for (const auto [name, value] : members) refuse_old_member(nb::cast<std::string>(name));
  throw UsageError("Config: " + missing + " must be given; see help(crossdock.Config)");
}

nb::dict members_of(const Config& config) {
  Get get{config, {}};
  visit([&](auto&&... member) { get(member...); });
  return get.out;
}

struct Properties {
  nb::class_<Config>& type;

  template <class T>
  void operator()(const char* name, T Config::*pointer) {
    type.def_prop_ro(name, [pointer](const Config& c) { return c.*pointer; });
  }
  template <class T, std::size_t kCount>
  void operator()(const char* name, T Config::*pointer, const std::string_view (&names)[kCount]) {
    const auto* all = &names;
    type.def_prop_ro(name, [pointer, all](const Config& c) { return (*all)[static_cast<int>(c.*pointer)]; });
  }
};

nb::object support_of(const Config& config, nb::handle num_ranks) {
  const Support support = supports(config, integer_of<int>("Config.supports: num_ranks", num_ranks));
  return result_class("Support")(support.ok, support.reason);
}

nb::object memory_usage_of(const Config& config, nb::handle num_ranks, nb::handle backend) {
  const MemoryUsage memory =
      memory_of(config, integer_of<int>("Config.memory: num_ranks", num_ranks),
                enum_of<BackendKind>(kBackendNames, text_of("Config.memory: backend", backend), "backend"));
  nb::dict lines;
  for (const RegionBytes& region : memory.regions) lines[region.name.c_str()] = region.bytes;
  lines["total"] = memory.total_bytes;
  return result_class("MemoryUsage")(lines);
}

/// Calls a function of crossdock._config, where some methods of Config are written in Python.
nb::object answer(const char* function, auto&&... arguments) {
  return nb::module_::import_("crossdock._config").attr(function)(arguments...);
}

constexpr const char* kInit =
    "def __init__(self, *, hidden: int, num_experts: int, top_k: int, max_tokens_per_rank: int, "
    "dispatch_dtype: object = 'bf16', combine_dtype: object = 'bf16', combine_quant: str = 'none', scale_bytes: int = "
    "0, "
    "layout: str = 'token_major', row_capacity: int = 0, expert_capacity: int = 0, alignment: int = 1, "
    "zero_padding: bool = False, overflow: str = 'drop', zero_copy: bool = False, fused: bool = False, "
    "combine_topk_weights: bool = False, max_in_flight: int = 1, max_kept_plans: int = 1, trace_events: int = 0, "
    "num_sms: int = 0, num_blocks: int = 0, num_warps: int = 0, splits_per_row: int = 0) -> None";

constexpr const char* kDoc =
    R"(The shape of one exchange, alike on every rank. Frozen and hashable; all members are scalars.

Shape
hidden               elements per row; rows of both dtypes must be multiples of 16 bytes
num_experts          experts of the whole group; expert e lives on rank e // ceil(num_experts / num_ranks)
top_k                experts per token, 1 to 64
max_tokens_per_rank  the most tokens a rank passes in one call

Types
dispatch_dtype, combine_dtype   a name of crossdock.DTYPES, or a dtype of torch, numpy or ml_dtypes
combine_quant        what crosses the link in combine, a name of crossdock.COMBINE_QUANTS: 'none' is the rows' own type,
                     'fp8_direct_cast' fp8 without scales, 'fp8_blockwise' fp8 with one power of two per 128 elements
scale_bytes          bytes that travel with each token of dispatch

Layout
layout               a name of crossdock.LAYOUTS
row_capacity         received rows, num_ranks to num_ranks * max_tokens_per_rank; 0: the worst case
expert_capacity      expert_major: rows per expert; contiguous: rows in all; 0: the worst case
alignment            contiguous: each expert starts at a multiple of 1, 8, 16, 32 or 128 rows
zero_padding         contiguous: padding rows are zeroed in every call
overflow             'drop' or 'error' for rows beyond a capacity

Memory
zero_copy            own a buffer for expert outputs, Received.combine_buffer
fused                combine slots for combine_fused (token_major only)
combine_topk_weights combine can return a second result: summed rows of top_k weights
max_in_flight        Received that may live at once, 1 to 16
max_kept_plans       plans that may be kept at once, 0 to 64
trace_events         time stamps kept for each Received in flight; see Exchange.trace

Launch
num_sms, num_blocks, num_warps, splits_per_row   geometry of calls: most thread blocks, blocks, warps of a block, parts of a
                     row. 0: from a tuning file (CROSSDOCK_TUNING_FILE), else the library's rule. Results never depend on it

Only the types are checked here: `supports` answers whether a group can serve it, and why not.)";

void bind_questions(nb::class_<Config>& type) {
  type.def("supports", &support_of, nb::arg("num_ranks").none(),
           nb::sig("def supports(self, num_ranks: int) -> Support"),
           "Whether a group of `num_ranks` can serve it, and why not. No side effect, needs no device.");
  type.def(
      "memory", &memory_usage_of, nb::arg("num_ranks").none(), nb::arg("backend").none() = "cpu",
      nb::sig("def memory(self, num_ranks: int, backend: str = 'cpu') -> MemoryUsage"),
      "Bytes that one rank of such an exchange takes, by region, before anything is allocated. ConfigError with the "
      "reason of `supports`.");
  type.def(
      "fit",
      [](nb::handle self, nb::handle num_ranks, nb::handle budget_bytes, nb::handle backend) {
        return answer("fit", self, num_ranks, budget_bytes, backend);
      },
      nb::arg("num_ranks").none(), nb::arg("budget_bytes").none(), nb::arg("backend").none() = "cpu",
      nb::sig("def fit(self, num_ranks: int, budget_bytes: int, backend: str = 'cpu') -> Config"),
      "A copy with the largest max_tokens_per_rank that takes at most `budget_bytes`. Capacities that were given stay "
      "as "
      "they are. ConfigError if not even one token fits.");
  type.def(
      "union", [](nb::handle self, nb::handle other) { return answer("union", self, other); }, nb::arg("other").none(),
      nb::sig("def union(self, other: Config) -> Config"),
      "The config whose memory suffices for both, so that layers of other sizes share one exchange. ConfigError where "
      "they "
      "differ in what cannot be joined (types, layout, experts).");
  type.def(
      "received_shape",
      [](nb::handle self, nb::handle num_ranks, nb::handle rank) {
        return answer("received_shape", self, num_ranks, rank);
      },
      nb::arg("num_ranks").none(), nb::arg("rank").none(),
      nb::sig("def received_shape(self, num_ranks: int, rank: int) -> tuple[int, ...]"),
      "Shape of Received.rows on `rank`, with `hidden` as its last axis (fp4: hidden / 2).");
  type.def(
      "token_capacity", [](nb::handle self, nb::handle num_ranks) { return answer("token_capacity", self, num_ranks); },
      nb::arg("num_ranks").none(), nb::sig("def token_capacity(self, num_ranks: int) -> int"),
      "Rows of Received.topk_ids: received tokens that there is room for.");
}

}  // namespace

void bind_config(nb::module_& module) {
  nb::class_<Config> type(module, "Config", kDoc);
  type.def(
      "__init__",
      [](Config* self, nb::kwargs members) {
        require_members(members);
        new (self) Config();
        set_members(*self, members);
      },
      nb::sig(kInit));
  visit([&](auto&&... member) { Properties{type}(member...); });
  type.def(
      "replace",
      [](Config config, nb::kwargs members) {
        set_members(config, members);
        return config;
      },
      "A copy with other members.");
  type.def("as_dict", &members_of, "All members by name.");
  type.def("__eq__",
           [](const Config& a, nb::handle b) { return nb::isinstance<Config>(b) && a == nb::cast<const Config&>(b); });
  type.def("__hash__", [](const Config& config) { return nb::hash(nb::tuple(members_of(config).values())); });
  type.def("__repr__", [](const Config& config) {
    std::string text;
    for (const auto [key, value] : members_of(config))
      text += (text.empty() ? "" : ", ") + nb::cast<std::string>(key) + "=" + nb::repr(value).c_str();
    return "Config(" + text + ")";
  });
  type.def("__reduce__", [](const Config& config) {
    return nb::make_tuple(nb::module_::import_("crossdock").attr("config_from"), nb::make_tuple(members_of(config)));
  });
  bind_questions(type);
  type.def("__getattr__", [](const Config&, const std::string& name) { refuse_attribute("Config", name); });
}

}  // namespace crossdock::python
