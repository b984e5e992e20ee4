// SPDX-License-Identifier: Apache-2.0
// The journey of one rank of `crossdock run`: route, dispatch, experts, combine, and the check of its own tokens.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "command/failures.hpp"
#include "crossdock/exchange.hpp"
#include "layer/expert_step.hpp"
#include "layer/layer_job.hpp"
#include "machine/copy_rate.hpp"
#include "machine/rank_memory.hpp"
#include "machine/times.hpp"
#include "problem/rows.hpp"

namespace crossdock::tools {
namespace {

constexpr double kMaxF64Products = 2e9;         // per rank; more tokens than that are sampled
constexpr std::int64_t kMaxCopied = 256 << 20;  // bytes per measured memcpy

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

  void route() {
    begin("routing tokens");
    rows_ = memory_.take(static_cast<std::size_t>(tokens_ * row_bytes_));
    scales_ = memory_.take(static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(config_.scale_bytes));
    out_ = memory_.take(static_cast<std::size_t>(tokens_ * out_bytes_));
    if (job_.trace) {
      std::ranges::copy(job_.trace->ids_of(rank_), ids());
      std::ranges::copy(job_.trace->weights_of(rank_), weights());
    }
    std::vector<float> x(static_cast<std::size_t>(config_.hidden)),
        logits(static_cast<std::size_t>(config_.num_experts));
    for (int t = 0; t < tokens_; ++t) {
      model_.embed(job_.byte_at(first_token_ + t), first_token_ + t, x.data());
      pack(config_.dispatch_dtype, x.data(), config_.hidden, rows_ + t * row_bytes_,
           scales_ + std::int64_t{t} * config_.scale_bytes);
      if (job_.trace) continue;
      multiply(model_.gate(), x.data(), logits.data());
      const std::int64_t at = std::int64_t{t} * config_.top_k;
      route_token(job_.options.router, model_, logits.data(), ids() + at, weights() + at);
    }
  }

  void exchange(Group& group) {
    sync();  // all have routed
    if (config_.layout != Layout::token_major)
      config_.expert_capacity = fitted_expert_capacity(config_, job_.num_ranks(), shared_.ids.all());
    Exchange exchange(group, config_);
    report().memory_bytes = exchange.memory().total_bytes;
    const auto bytes = [this](std::int64_t each) { return static_cast<std::size_t>(tokens_ * each); };
    input_.tokens = memory_.for_exchange(rows_, bytes(row_bytes_));
    input_.topk_ids = memory_.for_exchange(ids(), bytes(config_.top_k * std::int64_t{sizeof(std::int32_t)}));
    input_.topk_weights = memory_.for_exchange(weights(), bytes(config_.top_k * std::int64_t{sizeof(float)}));
    input_.scales = memory_.for_exchange(scales_, bytes(config_.scale_bytes));
    input_.num_tokens = tokens_;
    begin("dispatch and combine");
    for (int i = 0; i < job_.options.repeat; ++i) run_once(exchange, i);
  }

  /// What memcpy gives to the same ranks, each in its own memory, for as many bytes as dispatch delivered.
  void measure_copy() {
    begin("measuring memcpy");
    const std::int64_t bytes = std::clamp<std::int64_t>(report().num_rows, 1, kMaxCopied / row_bytes_) * row_bytes_;
    const auto size = static_cast<std::size_t>(bytes);
    const auto time = [&](auto copy) {
      for (int i = 0; i < job_.options.repeat; ++i) timed(Timed::copy, i, copy);
      report().copied_bytes = bytes;
    };
    if (machine_.is_host()) {
      RowCopy rows(bytes);
      return time([&] { rows.copy(bytes, row_bytes_); });
    }
    const DeviceBytes from = machine_.allocate(size), to = machine_.allocate(size);
    time([&] { machine_.copy(to.get(), from.get(), size); });
  }

  /// Compares every token with the dense layer, and as many as that takes little time for with the f64 layer.
  void check() {
    begin("checking against the dense layer");
    const double products = 3.0 * config_.hidden * job_.options.inter * config_.top_k;
    const int every = 1 + static_cast<int>(tokens_ * products / kMaxF64Products);
    DenseLayer dense(model_, config_, job_.num_ranks());
    std::vector<std::byte> expected(static_cast<std::size_t>(out_bytes_));
    std::vector<float> x(static_cast<std::size_t>(config_.hidden)), got(x.size());
    std::vector<double> exact(x.size());
    for (int t = 0; t < tokens_; ++t) {
      const std::byte* const out = out_ + t * out_bytes_;
      dense.run(token(t), expected.data());
      const auto mismatch = first_mismatch(config_.combine_dtype, config_.hidden, t, out, expected.data());
      if (mismatch && report().num_mismatches++ == 0) report().first_mismatch = *mismatch;
      if (t % every == 0) {
        model_.embed(job_.byte_at(first_token_ + t), first_token_ + t, x.data());
        dense.run_f64(x.data(), token(t), exact.data());
        widen(config_.combine_dtype, out, config_.hidden, got.data());
        report().distance.add(got.data(), exact.data(), config_.hidden);
      }
      if (shared_.barrier[0].stopped()) throw Stopped();
    }
  }

 private:
  RankReport& report() { return shared_.reports[rank_]; }
  std::int32_t* ids() { return shared_.ids.all().data() + first_token_ * config_.top_k; }
  float* weights() { return shared_.weights.all().data() + first_token_ * config_.top_k; }
  TokenInput token(int t) {
    return {rows_ + t * row_bytes_, scales_ + std::int64_t{t} * config_.scale_bytes,
            ids() + std::int64_t{t} * config_.top_k, weights() + std::int64_t{t} * config_.top_k};
  }
  void sync() { shared_.barrier[0].wait(job_.num_ranks()); }

  void begin(const char* step) const {
    if (rank_ == 0 && job_.options.progress) fmt::print(stderr, "  {:.0f} s  {}\n", us_since(began_) / 1e6, step);
  }

  template <class Call>
  void timed(Timed what, int iteration, Call call) {
    sync();
    Span& span = shared_.of_ranks(what, iteration)[static_cast<std::size_t>(rank_)];
    span.begin = SteadyClock::now();
    call();
    memory_.synchronize();
    span.end = SteadyClock::now();
  }

  void run_once(Exchange& exchange, int iteration) {
    std::optional<Received> received;
    timed(Timed::dispatch, iteration, [&] { received.emplace(exchange.dispatch(input_, call_)); });
    accept_bad_ids(exchange);
    const Counts& counts = *memory_.readable(received->counts(), sizeof(Counts));
    const auto row_bytes = static_cast<std::size_t>(counts.num_rows * row_bytes_);
    const std::uint64_t digest =
        digest_of(memory_.readable(static_cast<const std::byte*>(received->tokens().rows), row_bytes), row_bytes);
    if (iteration == 0) {
      note_received(*received, counts);
      make_outputs(*received, counts);
      received_digest_ = digest;
    } else if (digest != received_digest_) {
      throw Failed("dispatch {} delivered other rows than the first", iteration + 1);
    }
    const void* outputs = memory_.for_exchange(outputs_, output_bytes_);
    if (config_.zero_copy) {
      machine_.copy(received->combine_buffer().data, outputs_, output_bytes_);
      outputs = received->combine_buffer().data;
    }
    const auto result_bytes = static_cast<std::size_t>(tokens_ * out_bytes_);
    const CombineOutput output{.rows = memory_.for_result(out_, result_bytes)};
    timed(Timed::combine, iteration, [&] { exchange.combine(std::move(*received), {.rows = outputs}, output, call_); });
    memory_.result(out_, result_bytes);
    const std::uint64_t result = digest_of(out_, result_bytes);
    if (iteration > 0 && result != report().digest)
      throw Failed("combine {} gave another result than the first", iteration + 1);
    report().digest = result;
  }

  /// Ids that name no expert may stand in a trace. The library sends nothing for them and says so; here that is no failure.
  void accept_bad_ids(Exchange& exchange) {
    const Status status = exchange.poll();
    if (status.code == StatusCode::ok) return;
    if (status.fatal || status.code != StatusCode::usage) raise(status.code, status.text);
    exchange.clear_status();
  }

  void note_received(const Received& received, const Counts& counts) {
    RankReport& r = report();
    std::copy_n(counts.rows_per_source, kMaxRanks, r.rows_from);
    r.num_rows = counts.num_rows;
    r.bad_ids = counts.bad_ids;
    const TokenRows rows = received.tokens();
    const auto experts = static_cast<std::size_t>(rows.num_local_experts);
    std::copy_n(memory_.readable(received.expert_counts(), experts * sizeof(std::int32_t)), experts,
                shared_.expert_rows.all().data() + rows.first_expert);
  }

  /// Fills outputs_ with what the experts of this rank make of the received rows.
  void make_outputs(const Received& received, const Counts& counts) {
    begin("running experts");
    TokenRows rows = received.tokens();
    if (!received.has_experts()) {
      memory_.bring(rows.rows, counts.num_rows, row_bytes_);
      memory_.bring(rows.scales, counts.num_rows, config_.scale_bytes);
      memory_.bring(rows.topk_ids, counts.num_rows, config_.top_k * std::int64_t{sizeof(std::int32_t)});
      memory_.bring(rows.topk_weights, counts.num_rows, config_.top_k * std::int64_t{sizeof(float)});
      return run_experts(model_, config_, rows, counts.num_rows, take_outputs(counts.num_rows));
    }
    ExpertRows by_expert = received.experts();
    const std::int32_t* expert_counts = received.expert_counts();
    const int experts = rows.num_local_experts;
    memory_.bring(expert_counts, experts, sizeof(std::int32_t));
    memory_.bring(by_expert.offsets, experts + 1, sizeof(std::int32_t));
    const std::int64_t end = experts ? std::int64_t{by_expert.offsets[experts - 1]} + expert_counts[experts - 1] : 0;
    memory_.bring(by_expert.rows, end, row_bytes_);
    memory_.bring(by_expert.scales, end, config_.scale_bytes);
    run_experts(model_, config_, by_expert, {expert_counts, static_cast<std::size_t>(experts)}, rows.first_expert,
                take_outputs(end));
  }

  std::byte* take_outputs(std::int64_t rows) {
    output_bytes_ = static_cast<std::size_t>(rows * out_bytes_);
    return outputs_ = memory_.take(std::max<std::size_t>(output_bytes_, 16));
  }

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
  const SteadyClock::time_point began_ = SteadyClock::now();
};

}  // namespace

bool run_rank(const LayerJob& job, const Model& model, Shared& shared, const Meeting& meeting, int rank) {
  std::optional<Group> group;
  try {
    const std::shared_ptr<Machine> machine = open_machine(job.options.backend, job.options.devices);
    machine->use(rank);
    RankRun run(job, model, shared, rank, *machine);
    run.route();
    GroupOptions options = group_options(*machine, rank);
    options.deadline = std::chrono::milliseconds(job.options.deadline_ms);
    group = meeting.join(rank, options);
    run.exchange(*group);
    run.measure_copy();
    run.check();
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
    group->abort(fmt::format("rank {} of `crossdock run` failed", rank));
  return false;
}

}  // namespace crossdock::tools
