// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

#include <optional>
#include <vector>

#include "crossdock/exchange.hpp"

#include "group.hpp"
#include "stream.hpp"

namespace crossdock::python {

class PyExchange;

/// A Received and what belongs to it in Python. `exchange` keeps the memory of its views alive.
struct PyReceived {
  nanobind::object exchange;
  std::optional<Received> received;
  Framework framework;
  std::int64_t num_tokens;  // of this rank; -1: a word on the device
  std::int64_t known_rows;  // received rows, once the host has read their number; -1 before
  nanobind::object stream;  // of the dispatch, kept alive; None: no stream was passed
  nanobind::object scales_dtype;
  std::int64_t id;
  StreamHandle on;  // handle of the stream of the dispatch

  ~PyReceived();  // in debug mode, fills the rows with 0xff if no combine has consumed them

  const PyExchange& owner() const;
  const Received& use(const char* what) const;  // StateError once consumed
};

struct PyPlan {
  nanobind::object exchange;
  std::optional<Plan> plan;
  Framework framework;
  std::int64_t num_tokens;
  std::int64_t id;

  const Plan& use(const char* what) const;
};

/// Arguments of the calls, as Python passes them. None: not passed.
struct GeometryArguments {
  nanobind::object num_sms, num_blocks, num_warps, splits_per_row;
};
struct DispatchCall {
  nanobind::object x, topk_ids, topk_weights, scales, plan, num_tokens, stream;
  GeometryArguments geometry;
};
struct CombineCall {
  nanobind::object routing, rows, out, topk_weights, out_topk_weights, add, num_tokens, stream;
  bool combine_topk_weights;
  GeometryArguments geometry;
};

class PyExchange {
 public:
  PyExchange(nanobind::object group, const Config& config, bool debug);
  ~PyExchange();
  PyExchange(const PyExchange&) = delete;
  PyExchange& operator=(const PyExchange&) = delete;

  nanobind::object dispatch(nanobind::handle self, const DispatchCall& call);
  nanobind::object combine(const CombineCall& call);
  nanobind::object combine_fused(const CombineCall& call);

  Exchange& use(const char* call) const {
    group().check(call);
    return *exchange_;
  }
  void close();

  /// Memory whose views a user may still hold when the Received is gone.
  struct Stale {
    void* memory;
    std::uint64_t bytes;
  };
  using Stales = std::vector<Stale>;
  /// Rows and scales of `received`, by token and by expert; with `landed` also this rank's combine slots. Empty unless
  /// debug.
  Stales stale_of(const Received& received, bool landed) const;
  /// Fills the memory with 0xff in stream order, so that a read of a stale view gives wrong values at once.
  void debug_fill(const Stales& stales, StreamHandle stream) const;
  bool busy() const { return busy_; }

  const PyGroup& group() const { return *group_; }
  Caller caller(const char* call) const { return group_->caller(call); }

  const Config config;
  const nanobind::object group_object;
  const std::int64_t id;
  const bool debug;
  Framework framework;  // of the last dispatch; a dispatch without rows returns arrays of it

 private:
  void check_rows(const Tensor& rows, std::int64_t known_rows, const Caller& caller) const;
  /// RAII: marks a call as under way. StateError if a call of another thread is, because the library permits one thread
  /// at a time.
  class Turn {
   public:
    Turn(PyExchange& exchange, const Caller& caller);
    ~Turn() { exchange_.busy_ = false; }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    PyExchange& exchange_;
  };
  void check_ours(nanobind::handle other, const Caller& caller) const;  // StateError for a routing of another exchange

  const PyGroup* group_;
  std::unique_ptr<Exchange> exchange_;
  bool busy_ = false;  // guarded by the GIL
  const void* some_memory_ = nullptr;
  std::int64_t token_capacity_ = 0,
               row_capacity_ = 0;  // rows by token, and in the layout; known since the first dispatch
};

std::int64_t next_id();
void bind_received(nanobind::module_& module);

}  // namespace crossdock::python
