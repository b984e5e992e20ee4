// SPDX-License-Identifier: Apache-2.0
// dispatch and combine: read and check the arrays, release the GIL, call the library.
#include "exchange.hpp"

#include <nanobind/stl/string.h>

#include <atomic>

#include "arguments.hpp"
#include "binding.hpp"

namespace crossdock::python {

namespace nb = nanobind;

namespace {

CallOptions options_of(const Target& target, const GeometryArguments& geometry, const Caller& caller) {
  const auto number = [&](const char* name, nb::handle value) {
    int small;  // the usual case, in which no error text is built
    return nb::try_cast<int>(value, small, false) ? small : integer_of<int>(caller.text(name), value);
  };
  return {target.handle, number("num_sms", geometry.num_sms), number("num_blocks", geometry.num_blocks),
          number("num_warps", geometry.num_warps), number("splits_per_row", geometry.splits_per_row)};
}

/// T of a call: on the host, by default the number of rows; or a word on the device.
struct TokenCount {
  std::int32_t host = 0;
  const std::int32_t* device = nullptr;
};

TokenCount token_count(nb::handle given, std::int64_t rows, const Caller& caller) {
  if (given.is_none()) return {static_cast<std::int32_t>(rows), nullptr};
  if (nb::isinstance<nb::int_>(given)) {
    const auto number = integer_of<std::int32_t>(caller.text("num_tokens"), given);
    if (number > rows)
      throw UsageError(caller.text("num_tokens") + " = " + std::to_string(number) + "; only " + std::to_string(rows) +
                       " rows are given");
    return {number, nullptr};
  }
  const Tensor word = read_tensor(given, caller, "num_tokens");
  expect_element(word, {Element::i32}, caller, "num_tokens", "one word on the device, or an int");
  if (word.num_dims > 1 || (word.num_dims == 1 && word.shape[0] != 1))
    throw UsageError(caller.text("num_tokens") + " has shape " + word.shape_text() + "; must be one word");
  return {static_cast<std::int32_t>(rows), static_cast<const std::int32_t*>(word.data)};
}

/// UsageError unless `scales` has config.scale_bytes bytes for each token. Its first axis is tokens; the shape of the
/// others does not matter.
void check_scales(const Tensor& scales, std::int64_t rows, const Config& config, const Caller& caller) {
  std::int64_t row_bytes = scales.item_bytes;
  for (int i = 1; i < scales.num_dims; ++i) row_bytes *= scales.shape[i];
  if (scales.num_dims < 1 || (rows >= 0 && scales.shape[0] != rows) || row_bytes != config.scale_bytes)
    throw UsageError(caller.text("scales") + " has shape " + scales.shape_text() + " of " +
                     std::to_string(scales.item_bytes) + "-byte elements, " + std::to_string(row_bytes) +
                     " bytes a row; must be one row for each of " + std::to_string(rows) +
                     " tokens with config.scale_bytes = " + std::to_string(config.scale_bytes) + " bytes");
}

struct Inputs {
  DispatchInput in;
  Framework framework;
  std::int64_t rows = 0;
};

Inputs read_inputs(const DispatchCall& call, const Config& config, const Caller& caller, Framework idle, bool routed) {
  Inputs out{{}, idle, 0};
  if (!call.x.is_none()) {
    const Tensor x = read_rows(call.x, config.dispatch_dtype, config.hidden, caller, "x");
    out.in.tokens = x.data;
    out.framework = x.framework;
    out.rows = x.shape[0];
  }
  if (routed && call.topk_ids.is_none() && out.rows)
    throw UsageError(caller.text("topk_ids") + " is missing; pass [" + std::to_string(out.rows) + ", " +
                     std::to_string(config.top_k) + "] global expert ids, or a plan");
  if (routed && !call.topk_ids.is_none()) {
    const Tensor ids = read_tensor(call.topk_ids, caller, "topk_ids");
    expect_element(ids, {Element::i32, Element::i64}, caller, "topk_ids", "global expert ids, -1 = not routed");
    expect_matrix(ids, out.rows, config.top_k, caller, "topk_ids", "one row per token, top_k columns");
    out.in.topk_ids = ids.data;
    out.in.topk_ids_are_int64 = ids.element == Element::i64;
  }
  if (routed && !call.topk_weights.is_none()) {
    const Tensor weights = read_tensor(call.topk_weights, caller, "topk_weights");
    expect_element(weights, {Element::f32}, caller, "topk_weights", "routing weights");
    expect_matrix(weights, out.rows, config.top_k, caller, "topk_weights", "one row per token, top_k columns");
    out.in.topk_weights = static_cast<const float*>(weights.data);
  }
  if (!call.scales.is_none()) {
    const Tensor scales = read_tensor(call.scales, caller, "scales");
    check_scales(scales, out.rows, config, caller);
    out.in.scales = scales.data;
  }
  const TokenCount tokens = token_count(call.num_tokens, out.rows, caller);
  if (!tokens.device || tokens.host <= config.max_tokens_per_rank) out.in.num_tokens = tokens.host;
  out.in.num_tokens_on_device = tokens.device;
  if (tokens.device && out.rows < config.max_tokens_per_rank)
    throw UsageError(caller.text("x") + " has " + std::to_string(out.rows) +
                     " rows; with num_tokens on the device it must have max_tokens_per_rank = " +
                     std::to_string(config.max_tokens_per_rank) + ", for the host cannot know how many are read");
  return out;
}

void hold(const Target& target, std::initializer_list<nb::handle> objects) {
  if (!target.cpu) return;  // the call has ended, or the GPU's allocator reuses memory in stream order
  Held held;
  for (const nb::handle object : objects)
    if (object.is_valid() && !object.is_none()) held.push_back(nb::borrow(object));
  target.cpu->hold(std::move(held));
}

/// The Python object of the call's stream, to be kept alive: CuPy destroys a stream with its object.
nb::object stream_object(const Target& target, const nb::object& given) {
  return target.cpu ? nb::find(target.cpu) : given;
}

/// Where results go: the caller's arrays, or fresh ones.
struct Results {
  nb::object rows, topk_weights;
  CombineOutput out;
  nb::object answer() const { return topk_weights.is_none() ? rows : nb::object(nb::make_tuple(rows, topk_weights)); }
};

Results results_of(const CombineCall& call, std::int64_t num_tokens, const Config& config, const Caller& caller,
                   Framework framework, bool weights) {
  const std::int64_t tokens = num_tokens < 0 ? config.max_tokens_per_rank : num_tokens;
  Results results{call.out, nb::none(), {}};
  if (results.rows.is_none()) {
    const Element element = element_of(config.combine_dtype);
    const std::int64_t columns = element == Element::fp4_pair ? config.hidden / 2 : config.hidden;
    results.rows = make_empty(element, tokens, columns, caller, framework);
  }
  const Tensor out = read_rows(results.rows, config.combine_dtype, config.hidden, caller, "out");
  if (out.shape[0] != tokens || out.read_only)
    throw UsageError(caller.text("out") + " has shape " + out.shape_text() +
                     (out.read_only ? " and is read-only" : "") + "; must be writable with one row for each of " +
                     std::to_string(tokens) + " tokens of the dispatch");
  results.out.rows = out.data;
  if (!weights) return results;
  results.topk_weights = call.out_topk_weights.is_none()
                             ? make_empty(Element::f32, tokens, config.top_k, caller, framework)
                             : call.out_topk_weights;
  const Tensor second = read_tensor(results.topk_weights, caller, "out_topk_weights");
  expect_element(second, {Element::f32}, caller, "out_topk_weights", "summed weights");
  expect_matrix(second, tokens, config.top_k, caller, "out_topk_weights", "one row per token, top_k columns");
  if (second.read_only)
    throw UsageError(caller.text("out_topk_weights") + " is read-only; pass memory that may be written");
  results.out.topk_weights = static_cast<float*>(second.data);
  return results;
}

/// What a combine follows: a Received, which it consumes, or a Plan.
struct Routing {
  PyReceived* received = nullptr;
  PyPlan* plan = nullptr;
  std::int64_t num_tokens = 0;
  std::int64_t known_rows = -1;  // received rows, where the host has read their number; -1 elsewhere
  Framework framework = Framework::numpy;
};

Routing routing_of(nb::handle object, const Caller& caller) {
  Routing routing;
  if (nb::try_cast(object, routing.received) && routing.received) {
    const Received& received = routing.received->use(caller.call);
    routing.num_tokens = routing.received->num_tokens;
    routing.framework = routing.received->framework;
    const bool here = caller.backend == BackendKind::cpu && routing.received->stream.is_none();
    routing.known_rows = here ? received.counts()->num_rows : routing.received->known_rows;
  } else if (nb::try_cast(object, routing.plan) && routing.plan) {
    routing.plan->use(caller.call);
    routing.num_tokens = routing.plan->num_tokens;
    routing.framework = routing.plan->framework;
  } else {
    throw UsageError(caller.text("routing") + " is a " + nb::type_name(object.type()).c_str() +
                     "; pass the Received of a dispatch, or a Plan");
  }
  return routing;
}

/// Raises the failure of a call that ran in this thread (CPU, no stream). Reports that are not fatal are raised by the
/// next call, as they are for enqueued calls.
void raise_if_ended(const Exchange& exchange, const Caller& caller, const Target& target) {
  if (caller.backend != BackendKind::cpu || target.cpu) return;
  const Status status = exchange.poll();
  if (status.code != StatusCode::ok && status.fatal) raise(status.code, status.text);
}

}  // namespace

std::int64_t next_id() {
  static std::atomic<std::int64_t> last{0};
  return ++last;
}

namespace {

const PyGroup* group_of(nb::handle object) {
  PyGroup* group = nullptr;
  if (!nb::try_cast(object, group) || !group)
    throw UsageError(std::string("Exchange: group is a ") + nb::type_name(object.type()).c_str() +
                     "; pass a crossdock.Group");
  return group;
}

const PyPlan* plan_of(nb::handle object, const Caller& caller) {
  PyPlan* plan = nullptr;
  if (!object.is_none() && (!nb::try_cast(object, plan) || !plan))
    throw UsageError(caller.text("plan") + " is a " + nb::type_name(object.type()).c_str() +
                     "; pass what Received.retain_plan() gave");
  return plan;
}

}  // namespace

PyExchange::Turn::Turn(PyExchange& exchange, const Caller& caller) : exchange_(exchange) {
  if (exchange.busy_)
    throw StateError(std::string(caller.call) + " on rank " + std::to_string(caller.rank) +
                     ": another thread is in a call of this exchange; take turns, for all ranks must make the same "
                     "calls in the same order");
  exchange.busy_ = true;
}

void PyExchange::check_ours(nb::handle other, const Caller& caller) const {
  if (nb::cast<PyExchange*>(other) != this)
    throw StateError(caller.text("routing") + " belongs to another exchange; use the exchange that dispatched it");
}

PyExchange::PyExchange(nb::object group, const Config& c, bool with_debug)
    : config(c),
      group_object(std::move(group)),
      id(next_id()),
      debug(with_debug),
      framework(Framework::numpy),
      group_(group_of(group_object)) {
  if (PyDict_GetItemString(PyImport_GetModuleDict(), "torch")) framework = Framework::torch;
  const Group& joined = group_->use("Exchange");
  nb::gil_scoped_release others_run;
  exchange_ = std::make_unique<Exchange>(joined, config);
}

PyExchange::~PyExchange() {
  if (group_->forked()) exchange_.release();
}

void PyExchange::close() {
  if (!group_->forked()) exchange_->close();
}

nb::object PyExchange::dispatch(nb::handle self, const DispatchCall& call) {
  Exchange& exchange = use("dispatch");
  Caller caller = this->caller("dispatch");
  const Turn turn(*this, caller);
  const Target target = target_of(call.stream, caller);
  caller.stream = target.handle;
  const PyPlan* plan = plan_of(call.plan, caller);
  Inputs inputs = read_inputs(call, config, caller, framework, !plan);
  framework = inputs.framework;
  const CallOptions options = options_of(target, call.geometry, caller);
  std::optional<Received> received;
  {
    const Plan* kept = plan ? &plan->use("dispatch") : nullptr;
    nb::gil_scoped_release others_run;
    received = kept ? exchange.dispatch(*kept, inputs.in, options) : exchange.dispatch(inputs.in, options);
  }
  raise_if_ended(exchange, caller, target);
  hold(target, {self, call.x, call.topk_ids, call.topk_weights, call.scales, call.num_tokens});
  const TokenRows shape = received->tokens();
  token_capacity_ = shape.row_capacity;
  row_capacity_ = shape.row_capacity;
  if (received->has_experts()) {
    const ExpertRows experts = received->experts();
    row_capacity_ =
        experts.capacity_per_expert ? experts.capacity_per_expert * shape.num_local_experts : experts.num_rows_max;
  }
  some_memory_ = shape.rows;
  const std::int64_t tokens = inputs.in.num_tokens_on_device  ? -1
                              : plan && plan->num_tokens >= 0 ? plan->num_tokens
                                                              : inputs.in.num_tokens;
  nb::object scales_dtype = nb::none();
  if (!call.scales.is_none() && inputs.framework != Framework::dlpack && nb::hasattr(call.scales, "dtype"))
    scales_dtype = call.scales.attr("dtype");
  return nb::cast(new PyReceived{nb::borrow(self), std::move(received), inputs.framework, tokens, -1,
                                 stream_object(target, call.stream), std::move(scales_dtype), next_id(), target.handle},
                  nb::rv_policy::take_ownership);
}

/// UsageError unless `rows` covers what the kernels read: the whole capacity, or the received rows if the host has read
/// their number and the layout is token_major.
void PyExchange::check_rows(const Tensor& rows, std::int64_t known_rows, const Caller& caller) const {
  const std::int64_t least = known_rows >= 0 && config.layout == Layout::token_major ? known_rows : row_capacity_;
  if (rows.shape[0] >= least && rows.shape[0] <= row_capacity_) return;
  throw UsageError(caller.text("rows") + " has " + std::to_string(rows.shape[0]) + " rows; must have the capacity, " +
                   std::to_string(row_capacity_) +
                   (config.layout == Layout::token_major
                        ? ", or at least the received rows where the host has asked for their number (num_rows)"
                        : ""));
}

nb::object PyExchange::combine(const CombineCall& call) {
  Exchange& exchange = use("combine");
  Caller caller = this->caller("combine");
  const Turn turn(*this, caller);
  const Target target = target_of(call.stream, caller);
  caller.stream = target.handle;
  const Routing routing = routing_of(call.routing, caller);
  check_ours(routing.received ? routing.received->exchange : routing.plan->exchange, caller);
  const Tensor rows = read_rows(call.rows, config.combine_dtype, config.hidden, caller, "rows");
  check_rows(rows, routing.known_rows, caller);
  CombineInput in{rows.data ? rows.data : some_memory_, call.combine_topk_weights,
                  nullptr};  // a rank without experts has no rows
  if (!call.topk_weights.is_none()) {
    const Tensor weights = read_tensor(call.topk_weights, caller, "topk_weights");
    expect_element(weights, {Element::f32}, caller, "topk_weights", "rows of weights to sum");
    expect_matrix(weights, token_capacity_, config.top_k, caller, "topk_weights",
                  "one row per received token, to the capacity; top_k columns");
    in.topk_weights = static_cast<const float*>(weights.data);
    in.combine_topk_weights = true;
  }
  const Results results =
      results_of(call, routing.num_tokens, config, caller, routing.framework, in.combine_topk_weights);
  const CallOptions options = options_of(target, call.geometry, caller);
  if (!call.add.is_none() && (target.cpu || !call.stream.is_none()))
    throw UsageError(caller.text("add") +
                     " is given with a stream; it is added by the framework, in the current stream of a GPU or in " +
                     "the calling thread: add it yourself in that stream");
  Stales stales;
  if (routing.received) stales = stale_of(*routing.received->received, false);
  {
    nb::gil_scoped_release others_run;
    if (routing.received)
      exchange.combine(std::move(*routing.received->received), in, results.out, options);
    else
      exchange.combine(*routing.plan->plan, in, results.out, options);
  }
  if (routing.received) routing.received->received.reset();
  raise_if_ended(exchange, caller, target);
  debug_fill(stales, target.handle);
  hold(target, {call.routing, call.rows, call.topk_weights, results.rows, results.topk_weights});
  if (!call.add.is_none()) results.rows.attr("__iadd__")(call.add);
  return results.answer();
}

nb::object PyExchange::combine_fused(const CombineCall& call) {
  Exchange& exchange = use("combine_fused");
  Caller caller = this->caller("combine_fused");
  const Turn turn(*this, caller);
  const Target target = target_of(call.stream, caller);
  caller.stream = target.handle;
  const Routing routing = routing_of(call.routing, caller);
  check_ours(routing.received ? routing.received->exchange : routing.plan->exchange, caller);
  if (!routing.received)
    throw UsageError(caller.text("received") + " is a Plan; pass the Received whose combine slots were written");
  std::int64_t tokens = routing.num_tokens;
  if (!call.num_tokens.is_none()) tokens = token_count(call.num_tokens, config.max_tokens_per_rank, caller).host;
  const Results results = results_of(call, tokens, config, caller, routing.framework, call.combine_topk_weights);
  const CallOptions options = options_of(target, call.geometry, caller);
  const Stales stales = stale_of(*routing.received->received, true);
  {
    nb::gil_scoped_release others_run;
    exchange.combine_fused(std::move(*routing.received->received), results.out,
                           call.num_tokens.is_none() ? -1 : static_cast<std::int32_t>(tokens), options);
  }
  routing.received->received.reset();
  raise_if_ended(exchange, caller, target);
  debug_fill(stales, target.handle);
  hold(target, {call.routing, results.rows, results.topk_weights});
  return results.answer();
}

PyExchange::Stales PyExchange::stale_of(const Received& received, bool landed) const {
  if (!debug) return {};
  const auto row_bytes = static_cast<std::uint64_t>(row_bytes_of(config.dispatch_dtype, config.hidden));
  const auto scale_bytes = static_cast<std::uint64_t>(config.scale_bytes);
  const TokenRows tokens = received.tokens();
  const auto capacity = static_cast<std::uint64_t>(tokens.row_capacity);
  Stales stales{{tokens.rows, capacity * row_bytes}, {const_cast<void*>(tokens.scales), capacity * scale_bytes}};
  if (received.has_experts()) {
    const ExpertRows experts = received.experts();
    const auto rows = static_cast<std::uint64_t>(experts.num_rows_max);
    stales.push_back({experts.rows, rows * row_bytes});
    stales.push_back({const_cast<void*>(experts.scales), rows * scale_bytes});
  }
  if (landed)
    stales.push_back({const_cast<Received&>(received).combine_slots(group_->rank),
                      static_cast<std::uint64_t>(std::int64_t{config.max_tokens_per_rank} * config.top_k *
                                                 row_bytes_of(config.combine_dtype, config.hidden))});
  return stales;
}

void PyExchange::debug_fill(const Stales& stales, StreamHandle stream) const {
  for (const Stale& stale : stales)
    if (stale.memory && stale.bytes) exchange_->debug_fill(stale.memory, stale.bytes, stream);
}

PyReceived::~PyReceived() {
  if (!received || owner().group().forked() || owner().group().closed() || owner().busy()) return;
  try {
    owner().debug_fill(owner().stale_of(*received, false), on);
  } catch (
      ...) {  // a stream that is gone or a device that has failed; a destructor cannot throw, and nothing depends on the fill
  }
}

}  // namespace crossdock::python
