// SPDX-License-Identifier: Apache-2.0
// The journey of one rank of `crossdock run`: route, dispatch, experts, combine, and the check of its own tokens.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "crossdock/exchange.hpp"
#include "layer/expert_step.hpp"
#include "layer/layer_job.hpp"
#include "machine/copy_rate.hpp"
#include "machine/rank_memory.hpp"
#include "problem/rows.hpp"

namespace crossdock::tools {
namespace {

constexpr int kRoutedAtOnce = 8;                // tokens whose logits are made together
constexpr double kMaxF64Products = 2e9;         // per rank; more tokens than that are sampled
constexpr std::int64_t kMaxCopied = 256 << 20;  // bytes per measured memcpy

std::int64_t now_ns() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

std::uint64_t digest_of(const void* data, std::size_t bytes) {
  std::uint64_t digest = 0xcbf29ce484222325u, word;
  const auto* at = static_cast<const std::byte*>(data);
  for (; bytes >= 8; bytes -= 8, at += 8)
    std::memcpy(&word, at, 8), digest = (digest ^ word) * 0x100000001b3u, digest ^= digest >> 29;
  for (; bytes; --bytes, ++at) digest = (digest ^ std::to_integer<std::uint64_t>(*at)) * 0x100000001b3u;
  return digest;
}

class RankRun {
 public:
  RankRun(const LayerJob& job, const Model& model, Shared& shared, int rank, Machine& machine)
      : job_(job),
        model_(model),
        shared_(shared),
        rank_(rank),
        config_(job.options.config),
        tokens_(job.tokens[rank]),
        first_token_(job.first_token_of(rank)),
        row_bytes_(row_bytes_of(config_.dispatch_dtype, config_.hidden)),
        out_bytes_(row_bytes_of(config_.combine_dtype, config_.hidden)),
        machine_(machine),
        memory_(machine) {
    call_.stream = memory_.stream();
  }

  void route();
  void exchange(Group& group);
  void measure_copy();
  void measure_device_copy(std::int64_t bytes);
  void check();
  void compare_f64();

 private:
  RankProgress& progress() { return shared_.progress[rank_]; }
  RankReport& report() { return shared_.reports[rank_]; }
  std::int32_t* ids() { return shared_.ids.all().data() + first_token_ * config_.top_k; }
  float* weights() { return shared_.weights.all().data() + first_token_ * config_.top_k; }
  TokenInput token(int t) {
    return {rows_ + t * row_bytes_, scales_ + std::int64_t{t} * config_.scale_bytes,
            ids() + std::int64_t{t} * config_.top_k, weights() + std::int64_t{t} * config_.top_k};
  }
  void sync() { shared_.barrier[0].wait(job_.num_ranks()); }
  template <class Call>
  auto timed(Timed what, int iteration, Call call);
  void run_once(Exchange& exchange, int iteration);
  void note_received(const Received& received, const Counts& counts);
  void accept_bad_ids(Exchange& exchange);
  void run_experts(const Received& received, const Counts& counts);
  std::uint64_t digest_of_rows(const Received& received, const Counts& counts);

  const LayerJob& job_;
  const Model& model_;
  Shared& shared_;
  const int rank_;
  Config config_;
  const int tokens_;
  const std::int64_t first_token_, row_bytes_, out_bytes_;
  Machine& machine_;
  RankMemory memory_;
  CallOptions call_;
  DispatchInput input_;
  std::byte *rows_ = nullptr, *scales_ = nullptr, *out_ = nullptr, *outputs_ = nullptr;
  std::size_t output_bytes_ = 0;
  std::uint64_t received_digest_ = 0;
};

void RankRun::route() {
  progress().begin(Step::routing, tokens_);
  rows_ = memory_.take(static_cast<std::size_t>(tokens_ * row_bytes_));
  scales_ = memory_.take(static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(config_.scale_bytes));
  out_ = memory_.take(static_cast<std::size_t>(tokens_ * out_bytes_));
  if (job_.trace) {
    std::ranges::copy(job_.trace->ids_of(rank_), ids());
    std::ranges::copy(job_.trace->weights_of(rank_), weights());
  }
  const std::size_t hidden = static_cast<std::size_t>(config_.hidden),
                    experts = static_cast<std::size_t>(config_.num_experts);
  std::vector<float> x(kRoutedAtOnce * hidden), logits(kRoutedAtOnce * experts);
  for (int begin = 0; begin < tokens_; begin += kRoutedAtOnce) {
    const int count = std::min(kRoutedAtOnce, tokens_ - begin);
    for (int n = 0; n < count; ++n) {
      const std::int64_t position = first_token_ + begin + n;
      float* state = x.data() + static_cast<std::size_t>(n) * hidden;
      model_.embed(job_.byte_at(position), position, state);
      pack(config_.dispatch_dtype, state, config_.hidden, rows_ + (begin + n) * row_bytes_,
           scales_ + std::int64_t{begin + n} * config_.scale_bytes);
    }
    if (!job_.trace) {
      multiply(model_.gate(), x.data(), count, logits.data());
      for (int n = 0; n < count; ++n) {
        const std::int64_t at = std::int64_t{begin + n} * config_.top_k;
        route_token(job_.options.router, model_, logits.data() + static_cast<std::size_t>(n) * experts, ids() + at,
                    weights() + at);
      }
    }
    progress().advance(count);
  }
}

template <class Call>
auto RankRun::timed(Timed what, int iteration, Call call) {
  sync();
  Span& span = shared_.time(what, iteration, rank_);
  span.begin_ns = now_ns();
  const auto end = [&] {
    memory_.synchronize();
    span.end_ns = now_ns();
  };
  if constexpr (std::is_void_v<decltype(call())>) {
    call();
    end();
  } else {
    auto result = call();
    end();
    return result;
  }
}

void RankRun::exchange(Group& group) {
  progress().begin(Step::joining, 1);
  sync();  // all have routed
  if (config_.layout != Layout::token_major)
    config_.expert_capacity = fitted_expert_capacity(config_, job_.num_ranks(), shared_.ids.all());
  Exchange exchange(group, config_);
  report().memory_bytes = exchange.memory().total_bytes;
  const std::size_t pairs = static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(config_.top_k);
  const std::size_t scale_bytes = static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(config_.scale_bytes);
  input_.tokens = memory_.for_exchange(rows_, static_cast<std::size_t>(tokens_ * row_bytes_));
  input_.topk_ids = memory_.for_exchange(ids(), pairs * sizeof(std::int32_t));
  input_.topk_weights = memory_.for_exchange(weights(), pairs * sizeof(float));
  input_.scales = scale_bytes ? memory_.for_exchange(scales_, scale_bytes) : nullptr;
  input_.num_tokens = tokens_;
  for (int i = 0; i < job_.options.repeat; ++i) run_once(exchange, i);
}

void RankRun::run_once(Exchange& exchange, int iteration) {
  progress().begin(Step::exchanging, 1);
  Received received = timed(Timed::dispatch, iteration, [&] { return exchange.dispatch(input_, call_); });
  accept_bad_ids(exchange);
  const Counts& counts = *memory_.readable(received.counts(), sizeof(Counts));
  const std::uint64_t digest = digest_of_rows(received, counts);
  if (iteration == 0) {
    note_received(received, counts);
    run_experts(received, counts);
    received_digest_ = digest;
  } else if (digest != received_digest_) {
    throw std::runtime_error("dispatch " + std::to_string(iteration + 1) + " delivered other rows than the first");
  }
  const void* outputs = memory_.for_exchange(outputs_, output_bytes_);
  if (config_.zero_copy) {
    memory_.store(received.combine_buffer().data, outputs_, output_bytes_);
    outputs = received.combine_buffer().data;
  }
  const auto result_bytes = static_cast<std::size_t>(tokens_ * out_bytes_);
  const CombineOutput output{.rows = memory_.for_result(out_, result_bytes)};
  progress().begin(Step::exchanging, 1);
  timed(Timed::combine, iteration, [&] { exchange.combine(std::move(received), {.rows = outputs}, output, call_); });
  memory_.result(out_, result_bytes);
  const std::uint64_t result = digest_of(out_, result_bytes);
  if (iteration > 0 && result != report().digest)
    throw std::runtime_error("combine " + std::to_string(iteration + 1) + " gave another result than the first");
  report().digest = result;
}

/// Ids that name no expert may stand in a trace. The library sends nothing for them and says so; here that is no failure.
void RankRun::accept_bad_ids(Exchange& exchange) {
  const Status status = exchange.poll();
  if (status.code == StatusCode::ok) return;
  if (status.fatal || status.code != StatusCode::usage) raise(status.code, status.text);
  exchange.clear_status();
}

void RankRun::note_received(const Received& received, const Counts& counts) {
  RankReport& r = report();
  std::copy_n(counts.rows_per_source, kMaxRanks, r.rows_from);
  r.num_rows = counts.num_rows;
  r.bad_ids = counts.bad_ids;
  const TokenRows rows = received.tokens();
  const auto experts = static_cast<std::size_t>(rows.num_local_experts);
  std::copy_n(memory_.readable(received.expert_counts(), experts * sizeof(std::int32_t)), experts,
              shared_.expert_rows.all().data() + rows.first_expert);
}

std::uint64_t RankRun::digest_of_rows(const Received& received, const Counts& counts) {
  const TokenRows rows = received.tokens();
  const auto bytes = static_cast<std::size_t>(counts.num_rows * row_bytes_);
  return digest_of(memory_.readable(static_cast<const std::byte*>(rows.rows), bytes), bytes);
}

/// Fills outputs_ with what the experts of this rank make of the received rows.
void RankRun::run_experts(const Received& received, const Counts& counts) {
  const ExpertStep step{model_, config_, progress()};
  const auto readable = [&](const auto*& pointer, std::int64_t count, std::int64_t bytes) {
    pointer = memory_.readable(pointer, static_cast<std::size_t>(count * bytes));
  };
  const auto take_outputs = [&](std::int64_t rows) {
    output_bytes_ = static_cast<std::size_t>(rows * out_bytes_);
    outputs_ = memory_.take(std::max<std::size_t>(output_bytes_, 16));
  };
  TokenRows rows = received.tokens();
  if (!received.has_experts()) {
    const std::int64_t count = counts.num_rows;
    rows.rows = const_cast<std::byte*>(
        memory_.readable(static_cast<const std::byte*>(rows.rows), static_cast<std::size_t>(count * row_bytes_)));
    readable(rows.scales, count, config_.scale_bytes);
    readable(rows.topk_ids, count, config_.top_k * std::int64_t{4});
    readable(rows.topk_weights, count, config_.top_k * std::int64_t{4});
    take_outputs(count);
    return step.run(rows, count, outputs_);
  }
  ExpertRows by_expert = received.experts();
  const int experts = rows.num_local_experts;
  const std::int32_t* expert_counts = received.expert_counts();
  readable(expert_counts, experts, sizeof(std::int32_t));
  readable(by_expert.offsets, experts + 1, sizeof(std::int32_t));
  const std::int64_t end = experts ? std::int64_t{by_expert.offsets[experts - 1]} + expert_counts[experts - 1] : 0;
  by_expert.rows = const_cast<std::byte*>(
      memory_.readable(static_cast<const std::byte*>(by_expert.rows), static_cast<std::size_t>(end * row_bytes_)));
  readable(by_expert.scales, end, config_.scale_bytes);
  take_outputs(end);
  step.run(by_expert, expert_counts, rows.first_expert, experts, outputs_);
}

/// What memcpy gives to the same ranks, each in its own memory, for as many bytes as dispatch delivered.
void RankRun::measure_copy() {
  progress().begin(Step::copying, job_.options.repeat);
  const std::int64_t bytes = std::min(std::max(report().num_rows, std::int64_t{1}) * row_bytes_, kMaxCopied);
  if (!machine_.is_host()) return measure_device_copy(bytes);
  RowCopy copy(bytes, row_bytes_);
  for (int i = 0; i < job_.options.repeat; ++i) {
    report().copied_bytes = timed(Timed::copy, i, [&] { return copy.copy(bytes); });
    progress().advance();
  }
}

void RankRun::measure_device_copy(std::int64_t bytes) {
  const DeviceBytes from = machine_.allocate(static_cast<std::size_t>(bytes)),
                    to = machine_.allocate(static_cast<std::size_t>(bytes));
  for (int i = 0; i < job_.options.repeat; ++i, progress().advance()) {
    timed(Timed::copy, i, [&] { machine_.copy(to.get(), from.get(), static_cast<std::size_t>(bytes)); });
    report().copied_bytes = bytes;
  }
}

void RankRun::check() {
  progress().begin(Step::dense, tokens_);
  DenseLayer dense(model_, config_, job_.num_ranks());
  std::vector<std::byte> expected(static_cast<std::size_t>(out_bytes_));
  for (int t = 0; t < tokens_; ++t, progress().advance()) {
    dense.run(token(t), expected.data());
    const auto mismatch =
        first_mismatch(config_.combine_dtype, config_.hidden, t, out_ + t * out_bytes_, expected.data());
    if (mismatch && report().num_mismatches++ == 0) report().first_mismatch = *mismatch;
    if (shared_.barrier[0].stopped()) throw Stopped();
  }
  report().checked = true;
}

void RankRun::compare_f64() {
  const double products = 3.0 * config_.hidden * job_.options.inter * config_.top_k;
  const int every = 1 + static_cast<int>(tokens_ * products / kMaxF64Products);
  progress().begin(Step::f64, tokens_);
  DenseLayer dense(model_, config_, job_.num_ranks());
  const auto hidden = static_cast<std::size_t>(config_.hidden);
  std::vector<float> x(hidden), got(hidden);
  std::vector<double> exact(hidden);
  for (int t = 0; t < tokens_; t += every, progress().advance(every)) {
    model_.embed(job_.byte_at(first_token_ + t), first_token_ + t, x.data());
    dense.run_f64(x.data(), token(t), exact.data());
    widen(config_.combine_dtype, out_ + t * out_bytes_, config_.hidden, got.data());
    report().distance.add(got.data(), exact.data(), config_.hidden);
  }
  progress().begin(Step::finished, 1);
}

Group join(const LayerJob& job, const Machine& machine, const ThreadTeam* team, const std::string& meeting, int rank) {
  GroupOptions options = group_options(machine, rank);
  options.deadline = std::chrono::milliseconds(job.options.deadline_ms);
  return team ? Group::join(*team, rank, options) : Group::rendezvous(meeting, rank, job.num_ranks(), options);
}

}  // namespace

bool run_rank(const LayerJob& job, const Model& model, Shared& shared, const ThreadTeam* team,
              const std::string& meeting, int rank) {
  std::optional<Group> group;
  try {
    const std::shared_ptr<Machine> machine = open_machine(job.options.backend, job.options.devices);
    machine->use(rank);
    RankRun run(job, model, shared, rank, *machine);
    run.route();
    group = join(job, *machine, team, meeting, rank);
    run.exchange(*group);
    run.measure_copy();
    run.check();
    run.compare_f64();
    return true;
  } catch (const Stopped&) {
    return true;  // the rank that failed says why
  } catch (const std::exception& error) {
    const auto* of_library = dynamic_cast<const Error*>(&error);
    shared.reports[rank].bad_input =
        of_library && (of_library->code() == StatusCode::usage || of_library->code() == StatusCode::config);
    std::snprintf(shared.reports[rank].failure, sizeof RankReport::failure, "%s", error.what());
  }
  shared.barrier[0].stop();
  if (group && group->poll().code == StatusCode::ok)
    group->abort("rank " + std::to_string(rank) + " of `crossdock run` failed");
  return false;
}

}  // namespace crossdock::tools
