// SPDX-License-Identifier: Apache-2.0
#include "jobs/bench_rank.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "problem/verify.hpp"

namespace crossdock::tools {
namespace {

Group join(const ThreadTeam& team, int rank, Machine& machine) {
  machine.use(rank);
  return Group::join(team, rank, group_options(machine, rank));
}

}  // namespace

DispatchInput input_of(const Data& data, int rank, RankMemory& memory) {
  DispatchInput in = data.dispatch_input(rank);
  const oracle::RankInput& from = data.inputs[rank];
  const std::size_t ids = from.ids.size() * (in.topk_ids_are_int64 ? sizeof(std::int64_t) : sizeof(std::int32_t));
  in.tokens = memory.for_exchange(static_cast<const std::byte*>(in.tokens), from.rows.size());
  in.topk_ids = memory.for_exchange(static_cast<const std::byte*>(in.topk_ids), ids);
  in.topk_weights = memory.for_exchange(in.topk_weights, from.weights.size() * sizeof(float));
  in.scales = memory.for_exchange(static_cast<const std::byte*>(in.scales), from.scales.size());
  return in;
}

void put_outputs(const Data& data, int rank, std::byte* to, Machine& machine) {
  if (machine.is_host()) return write_outputs(data, rank, to);
  const Pages pages(static_cast<std::size_t>(output_bytes(data, rank)));
  write_outputs(data, rank, pages.data());
  machine.copy(to, pages.data(), pages.bytes());
}

BenchRank::BenchRank(const Data& data, const ThreadTeam& team, int rank, Machine& machine)
    : data_(data),
      rank_(rank),
      machine_((machine.use(rank), machine)),
      memory_(machine),
      group_(join(team, rank, machine)),
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

void BenchRank::place_outputs() {
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

void BenchRank::start_dispatch(const CallOptions& options) {
  received_.reset();
  received_.emplace(exchange_.dispatch(input_, options));
  dispatched_ = exchange_.last_launch();
}

void BenchRank::start_replay(const CallOptions& options) {
  received_.reset();
  received_.emplace(exchange_.dispatch(*plan_, input_, options));
  dispatched_ = exchange_.last_launch();
}

void BenchRank::finish_combine(const CallOptions& options) {
  if (fused())
    exchange_.combine_fused(std::move(*received_), out_, -1, options);
  else
    exchange_.combine(std::move(*received_), in_, out_, options);
  combined_ = exchange_.last_launch();
  received_.reset();
}

void BenchRank::call(Op op, const CallOptions& options) {
  if (op == Op::replay) return start_replay(options);
  if (dispatches(op)) start_dispatch(options);
  if (op == Op::pair || (op == Op::combine && fused())) finish_combine(options);
  if (op != Op::combine || fused()) return;
  exchange_.combine(*plan_, in_, out_, options);
  combined_ = exchange_.last_launch();
}

std::string BenchRank::refuses(const Problem& problem, const Run& run) {
  return problem.path == Path::fused && run.op == Op::combine && run.mode != Mode::eager
             ? "fused combine consumes a dispatch; alone it is timed eager only"
             : "";
}

std::int64_t BenchRank::row_bytes() const {
  return row_bytes_of(data_.problem.shape.dispatch_dtype, data_.problem.shape.hidden);
}

std::int64_t BenchRank::weight_bytes() const {
  const std::int64_t per_token = std::int64_t{data_.problem.shape.top_k} * static_cast<std::int64_t>(sizeof(float));
  return data_.problem.second_result ? data_.answers[rank_].num_tokens * per_token : 0;
}

void BenchRank::debug_fill() {
  constexpr std::uint8_t kNobodys = 0xa5;
  const oracle::RankAnswer& answer = data_.answers[rank_];
  machine_.fill(results_.get(), kNobodys, static_cast<std::size_t>(result_bytes_));
  machine_.fill(weights_.get(), kNobodys, static_cast<std::size_t>(weight_bytes()));
  machine_.fill(arrived_, kNobodys, static_cast<std::size_t>(answer.num_rows * row_bytes()));
  const std::int64_t by_expert = arrived_by_expert_ ? answer.experts.num_rows_max * row_bytes() : 0;
  machine_.fill(arrived_by_expert_, kNobodys, static_cast<std::size_t>(by_expert));
}

std::string BenchRank::judge(Op op, const oracle::RankResult& expected) {
  std::string wrong;
  if (!combines(op)) wrong = wrong_dispatch(data_, rank_, *received_, memory_);
  if (op == Op::pair) wrong = wrong_rows(data_, rank_, arrived_, memory_);
  if (combines(op) && wrong.empty()) wrong = wrong_combine(data_, rank_, expected, out_.rows, out_.topk_weights);
  return wrong;
}

/// The oracle's rows and results, in memory of the device.
void BenchRank::bring_expected(const oracle::RankResult& expected) {
  if (expected_rows_) return;
  const oracle::RankAnswer& answer = data_.answers[rank_];
  const auto row = static_cast<std::size_t>(row_bytes());
  std::vector<std::byte> rows(static_cast<std::size_t>(answer.num_rows) * row);
  for (std::int64_t r = 0; r < answer.num_rows; ++r)
    std::memcpy(rows.data() + static_cast<std::size_t>(r) * row,
                oracle::received_row(data_.problem.shape, data_.inputs, answer.sources[r]), row);
  const auto bring = [&](const void* from, std::size_t bytes) {
    DeviceBytes to = machine_.allocate(bytes);
    machine_.copy(to.get(), from, bytes);
    return to;
  };
  expected_rows_ = bring(rows.data(), rows.size());
  if (arrived_by_expert_)
    expected_slots_ = bring(answer.experts.slots.data(), answer.experts.slots.size() * sizeof(std::int64_t));
  expected_results_ = bring(expected.rows.data(), expected.rows.size());
  if (out_.topk_weights) expected_weights_ = bring(expected.weights.data(), static_cast<std::size_t>(weight_bytes()));
}

std::string BenchRank::judge_in_place(Op op, const oracle::RankResult& expected) {
  machine_.use(rank_);
  bring_expected(expected);
  const auto differs = [&](const char* what, const void* is, const DeviceBytes& should, const DeviceBytes& index,
                           std::int64_t rows, std::int64_t bytes) -> std::string {
    const auto* of = reinterpret_cast<const std::int64_t*>(index.get());
    const std::int64_t row = machine_.first_different_row(is, should.get(), of, rows, bytes);
    if (row < 0) return "";
    return std::string(what) + ", rank " + std::to_string(rank_) + ": row " + std::to_string(row) +
           " differs from the oracle's";
  };
  const oracle::RankAnswer& answer = data_.answers[rank_];
  std::string wrong;
  if (dispatches(op)) wrong = differs("dispatch", arrived_, expected_rows_, nullptr, answer.num_rows, row_bytes());
  if (dispatches(op) && wrong.empty() && arrived_by_expert_)
    wrong = differs("dispatch by expert", arrived_by_expert_, expected_rows_, expected_slots_,
                    static_cast<std::int64_t>(answer.experts.slots.size()), row_bytes());
  if (combines(op) && wrong.empty())
    wrong = differs("combine", out_.rows, expected_results_, nullptr, answer.num_tokens, data_.outputs.row_bytes());
  if (combines(op) && wrong.empty() && out_.topk_weights)
    wrong = differs("weights of combine", out_.topk_weights, expected_weights_, nullptr, answer.num_tokens,
                    weight_bytes() / std::max(1, answer.num_tokens));
  return wrong;
}

}  // namespace crossdock::tools
