// SPDX-License-Identifier: Apache-2.0
// One rank of a bench: its exchange, its memory, and the calls that are timed.
#pragma once

#include <algorithm>
#include <optional>
#include <stdexcept>

#include "jobs/measure.hpp"
#include "machine/rank_memory.hpp"
#include "problem/verify.hpp"

namespace crossdock::tools {

class BenchRank {
 public:
  /// Collective, in the rank's thread: a first dispatch, whose plan is kept, and the inputs of combine.
  BenchRank(const Data& data, const ThreadTeam& team, int rank, Machine& machine)
      : data_(data),
        rank_(rank),
        machine_((machine.use(rank), machine)),
        memory_(machine),
        group_(Group::join(team, rank, group_options(machine, rank))),
        exchange_(group_, config_of(data.problem)),
        input_(input_of(data, rank, memory_)),
        result_bytes_(data.answers[rank].num_tokens * data.outputs.row_bytes()) {
    results_ = machine_.allocate(static_cast<std::size_t>(result_bytes_));
    out_.rows = results_.get();
    if (data.problem.second_result) {
      weights_ = machine_.allocate(static_cast<std::size_t>(weight_bytes()));
      in_.combine_topk_weights = true;
      out_.topk_weights = reinterpret_cast<float*>(weights_.get());
    }
    CallOptions options;
    options.stream = memory_.stream();
    start_dispatch(options);
    memory_.synchronize();
    arrived_ = received_->tokens().rows;
    if (received_->has_experts()) arrived_by_expert_ = received_->experts().rows;
    plan_.emplace(received_->retain_plan());
    if (const std::string wrong = wrong_dispatch(data_, rank_, *received_, memory_); !wrong.empty())
      throw std::runtime_error(wrong);
    place_outputs();
  }

  /// The call of `op`. replay and combine alone go along the kept plan; a fused combine consumes a dispatch.
  void call(Op op, const CallOptions& options) {
    if (op == Op::replay) return start_replay(options);
    if (dispatches(op)) start_dispatch(options);
    if (op == Op::pair || (op == Op::combine && fused())) finish_combine(options);
    if (op != Op::combine || fused()) return;
    exchange_.combine(*plan_, in_, out_, options);
    combined_ = exchange_.last_launch();
  }
  void start_dispatch(const CallOptions& options) {
    received_.reset();
    received_.emplace(exchange_.dispatch(input_, options));
    dispatched_ = exchange_.last_launch();
  }
  void start_replay(const CallOptions& options) {
    received_.reset();
    received_.emplace(exchange_.dispatch(*plan_, input_, options));
    dispatched_ = exchange_.last_launch();
  }
  void finish_combine(const CallOptions& options) {
    if (fused())
      exchange_.combine_fused(std::move(*received_), out_, -1, options);
    else
      exchange_.combine(std::move(*received_), in_, out_, options);
    combined_ = exchange_.last_launch();
    received_.reset();
  }

  /// Overwrites what earlier calls have left, so that only later ones can make it right.
  void debug_fill() {
    constexpr std::uint8_t kNobodys = 0xa5;
    const oracle::RankAnswer& answer = data_.answers[rank_];
    machine_.fill(results_.get(), kNobodys, static_cast<std::size_t>(result_bytes_));
    machine_.fill(weights_.get(), kNobodys, static_cast<std::size_t>(weight_bytes()));
    machine_.fill(arrived_, kNobodys, static_cast<std::size_t>(answer.num_rows * row_bytes()));
    const std::int64_t by_expert = arrived_by_expert_ ? answer.experts.num_rows_max * row_bytes() : 0;
    machine_.fill(arrived_by_expert_, kNobodys, static_cast<std::size_t>(by_expert));
  }

  /// Empty, or how what `op` has left differs from the oracle. All calls must be done.
  std::string judge(Op op, const oracle::RankResult& expected) {
    machine_.use(rank_);
    std::string wrong;
    if (!combines(op)) wrong = wrong_dispatch(data_, rank_, *received_, memory_);
    if (op == Op::pair) wrong = wrong_rows(data_, rank_, arrived_, arrived_by_expert_, memory_);
    if (!combines(op) || !wrong.empty()) return wrong;
    const void* rows = out_.rows;
    const float* weights = out_.topk_weights;
    memory_.bring(rows, 1, result_bytes_);
    memory_.bring(weights, 1, weight_bytes());
    return wrong_combine(data_, rank_, expected, rows, weights);
  }

  /// How the newest calls were launched.
  const LaunchInfo& dispatched() const { return dispatched_; }
  const LaunchInfo& combined() const { return combined_; }
  std::vector<TraceEvent> trace() const { return exchange_.trace(); }
  bool fused() const { return data_.problem.path == Path::fused; }
  /// What cannot be timed, and why.
  static std::string refuses(const Problem& problem, const Run& run) {
    return problem.path == Path::fused && run.op == Op::combine && run.mode != Mode::eager
               ? "fused combine consumes a dispatch; alone it is timed eager only"
               : "";
  }

 private:
  void place_outputs() {
    if (fused()) return write_landings(data_, rank_, *received_, machine_);
    std::byte* to = nullptr;
    if (data_.problem.path == Path::zero_copy) {
      to = static_cast<std::byte*>(received_->combine_buffer().data);
    } else {
      outputs_ = machine_.allocate(static_cast<std::size_t>(std::max<std::int64_t>(output_bytes(data_, rank_), 16)));
      to = outputs_.get();
    }
    in_.rows = to;
    put_outputs(data_, rank_, to, machine_);
  }

  std::int64_t row_bytes() const {
    return row_bytes_of(data_.problem.shape.dispatch_dtype, data_.problem.shape.hidden);
  }
  /// Of the second result; 0 if it is not asked for.
  std::int64_t weight_bytes() const {
    const std::int64_t per_token = std::int64_t{data_.problem.shape.top_k} * static_cast<std::int64_t>(sizeof(float));
    return data_.problem.second_result ? data_.answers[rank_].num_tokens * per_token : 0;
  }

  const Data& data_;
  const int rank_;
  Machine& machine_;
  RankMemory memory_;
  Group group_;
  Exchange exchange_;
  DispatchInput input_;
  std::optional<Received> received_;  // of the last dispatch
  std::optional<Plan> plan_;
  void *arrived_ = nullptr, *arrived_by_expert_ = nullptr;  // one in flight, so they lie in one place
  DeviceBytes outputs_, results_, weights_;
  std::int64_t result_bytes_;
  LaunchInfo dispatched_, combined_;
  CombineInput in_;
  CombineOutput out_;
};

}  // namespace crossdock::tools
