// SPDX-License-Identifier: Apache-2.0
#include "support/harness.hpp"

#include <algorithm>
#include <exception>
#include <optional>
#include <stdexcept>
#include <thread>

#include "support/fiber_launch.hpp"

namespace crossdock::testing {

void run_threads(int num_ranks, Log& log, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int r = 0; r < num_ranks; ++r) {
    threads.emplace_back([&, r] {
      try {
        const BackendKind backend = backend_of_tests();
        use_device(backend, r);
        body(r);
        if (backend == BackendKind::cpu) return;
        if (const std::string left = last_error(backend); !left.empty()) log.add("rank ", r, ": left behind: ", left);
      } catch (const std::exception& error) {
        log.add("rank ", r, ": exception: ", error.what());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

WhenAllAreThrough::~WhenAllAreThrough() {
  ++done;
  while (done < all) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

Round::Round(const TestCase& test, const Answers& answers, int rank, bool roomy)
    : test_(test), answers_(&answers), rank_(rank), roomy_(roomy) {
  use_device(test.backend, rank);  // a thread may play several ranks
  const Config& c = test.config;
  const oracle::RankAnswer& mine = answers.received[rank];
  const std::int64_t tokens = roomy ? c.max_tokens_per_rank : mine.num_tokens;
  const std::int64_t row_bytes = row_bytes_of(c.dispatch_dtype, c.hidden);
  const std::int64_t out_bytes = row_bytes_of(c.combine_dtype, c.hidden);
  const auto buffer = [&](std::int64_t bytes, bool guarded = false) {
    return Buffer(test.backend, bytes, 0xff, guarded);
  };
  rows_ = buffer(tokens * row_bytes);
  ids_ = buffer(tokens * c.top_k * (test.topk_ids_are_int64 ? 8 : 4));
  weights_ = buffer(tokens * c.top_k * 4);
  scales_ = buffer(tokens * c.scale_bytes);
  num_tokens_ = buffer(4);
  std::int64_t output_rows = oracle::row_capacity(answers.shape);
  if (c.layout != Layout::token_major) output_rows = mine.experts.num_rows_max;
  outputs_ = buffer(roomy ? output_rows * out_bytes : static_cast<std::int64_t>(answers.outputs[rank].size()));
  output_weights_ = buffer((roomy ? oracle::row_capacity(answers.shape) : mine.num_rows) * c.top_k * 4);
  result_ = buffer(tokens * out_bytes, true);
  result_weights_ = buffer(tokens * c.top_k * 4, true);
  spoil_.assign(std::max(result_.bytes(), result_weights_.bytes()), 0xee);
  load(answers);
}

void Round::load(const Answers& answers, StreamHandle stream) {
  answers_ = &answers;
  const oracle::RankInput& in = answers.inputs[rank_];
  const auto put = [&](const Buffer& to, const auto& from) {  // T above M brings rows that nobody reads
    const std::size_t bytes = std::min(from.size() * sizeof(from[0]), to.bytes());
    copy_in(test_.backend, to.data(), from.data(), bytes, stream);
  };
  put(rows_, in.rows);
  if (test_.topk_ids_are_int64)
    put(ids_, in.ids);
  else
    put(ids_, answers.narrow_ids[rank_]);
  put(weights_, in.weights);
  put(scales_, in.scales);
  copy_in(test_.backend, num_tokens_.data(), &in.num_tokens, 4, stream);
}

DispatchInput Round::payload() const {
  DispatchInput in;
  const bool device = test_.device_tokens;
  in.num_tokens = device ? 0 : answers_->received[rank_].num_tokens;
  in.num_tokens_on_device = device ? num_tokens_.as<std::int32_t>() : nullptr;
  if (in.num_tokens == 0 && !device) return in;  // nothing is read: nothing need be there
  in.tokens = rows_.data();
  in.scales = test_.config.scale_bytes > 0 ? scales_.data() : nullptr;
  return in;
}

DispatchInput Round::input() const {
  DispatchInput in = payload();
  in.topk_ids_are_int64 = test_.topk_ids_are_int64;
  if (!in.tokens) return in;
  in.topk_ids = ids_.data();
  in.topk_weights = test_.recipe.weights ? weights_.as<float>() : nullptr;
  return in;
}

Targets targets_of(const Received& received, const TestCase& test) {
  Targets targets;
  targets.received_rows = received.tokens().rows;
  if (test.config.zero_copy) targets.combine_buffer = received.combine_buffer().data;
  for (int r = 0; r < test.num_ranks && test.config.fused; ++r) targets.combine_slots[r] = received.combine_slots(r);
  return targets;
}

CombineInput Round::combine_input(const Targets& targets) const {
  CombineInput in;
  in.rows = test_.in_place ? targets.received_rows : outputs_.data();
  if (test_.config.zero_copy) in.rows = targets.combine_buffer;
  if (test_.config.fused) in.rows = nullptr;
  in.combine_topk_weights = test_.combine_topk_weights;
  in.topk_weights = test_.caller_weights ? output_weights_.as<float>() : nullptr;
  return in;
}

CombineInput Round::run_experts(const Targets& targets, StreamHandle stream) {
  const CombineInput in = combine_input(targets);
  const auto& outputs = answers_->outputs[rank_];
  const auto& weights = answers_->weights[rank_];
  if (test_.config.fused)
    write_landings(targets, stream);
  else
    copy_in(test_.backend, const_cast<void*>(in.rows), outputs.data(), outputs.size(), stream);
  if (in.topk_weights) copy_in(test_.backend, output_weights_.data(), weights.data(), weights.size() * 4, stream);
  return in;
}

/// This rank's experts write the partial rows of the ids that they own, at every home.
void Round::write_landings(const Targets& targets, StreamHandle stream) const {
  const oracle::Case& c = answers_->shape;
  const std::int64_t row_bytes = row_bytes_of(c.combine_dtype, c.hidden);
  for (int home = 0; home < c.num_ranks; ++home) {
    auto* landing = static_cast<std::uint8_t*>(targets.combine_slots[home]);
    const oracle::RankAnswer& plan = answers_->received[home];
    for (std::int64_t i = 0; i < std::int64_t{plan.num_tokens} * c.top_k; ++i) {
      const bool kept = plan.kept_ids[i / c.top_k] >> (i % c.top_k) & 1;
      if (!kept || oracle::rank_of_expert(c, answers_->inputs[home].ids[i]) != rank_) continue;
      copy_in(test_.backend, landing + i * row_bytes, &answers_->outputs[home][i * row_bytes], row_bytes, stream);
    }
  }
}

CombineOutput Round::output() const {
  CombineOutput out;
  const bool nothing = answers_->received[rank_].num_tokens == 0 && !test_.device_tokens && !roomy_;
  if (!nothing) out.rows = result_.data();
  // combine_fused knows by this pointer that the second result is wanted, also of a rank without tokens.
  if (test_.combine_topk_weights && (!nothing || test_.config.fused)) out.topk_weights = result_weights_.as<float>();
  return out;
}

void Round::spoil_output(StreamHandle stream) {
  copy_in(test_.backend, result_.data(), spoil_.data(), result_.bytes(), stream);
  copy_in(test_.backend, result_weights_.data(), spoil_.data(), result_weights_.bytes(), stream);
}

void Round::check_output(Log& log) const {
  check_result(test_, *answers_, rank_, result_.data(),
               test_.combine_topk_weights ? result_weights_.as<float>() : nullptr, log);
  if (!result_.guard_is_whole() || !result_weights_.guard_is_whole())
    log.add("rank ", rank_, ": combine wrote behind the last row of its result");
}

Rank::Rank(const TestCase& t, Group g, Log& l) : test(t), log(l), group(std::move(g)), exchange(group, t.config) {
  run_calls_at_once(exchange);
  if (t.executor.width > 0 && t.backend == BackendKind::cpu) use_fibers(exchange, t.executor);
  check_bill(exchange.memory(), t.config, t.num_ranks, group.backend(), log);
}

GroupOptions options_of(BackendKind backend, int rank, std::chrono::milliseconds deadline) {
  GroupOptions options;
  options.backend = backend;
  options.device = device_of(backend, rank);
  options.deadline = deadline;
  return options;
}

Rank::Rank(const TestCase& t, const ThreadTeam& team, int rank, Log& l, std::chrono::milliseconds deadline)
    : Rank(t, Group::join(team, rank, options_of(t.backend, rank, deadline)), l) {}

void Rank::combine(Received&& received, const CombineInput& input, const CombineOutput& output, StreamHandle stream) {
  CallOptions options;
  options.stream = stream;
  if (test.config.fused)
    exchange.combine_fused(std::move(received), output, -1, options);
  else
    exchange.combine(std::move(received), input, output, options);
}

Rank::Kept Rank::run_and_keep(Round& round) {
  Received received = exchange.dispatch(round.input());
  Plan plan = received.retain_plan();
  const CombineInput rows = round.run_experts(received);
  combine(std::move(received), rows, round.output());
  return {std::move(plan), rows};
}

void Rank::settle_reports(const Answers& answers) {
  const oracle::RankAnswer& mine = answers.received[rank()];
  const bool over = mine.rows_needed > mine.num_rows || mine.experts.rows_dropped > 0;
  StatusCode right = StatusCode::ok;
  if (mine.bad_ids > 0 || answers.inputs[rank()].num_tokens > test.config.max_tokens_per_rank)
    right = StatusCode::usage;
  if (over && test.config.overflow == Overflow::error) right = StatusCode::capacity;
  const Status status = exchange.poll();
  if (status.code != right)
    log.add("rank ", rank(), ": poll() says ", name_of(status.code), ", must say ", name_of(right), ". ", status.text);
  if (status.code != StatusCode::ok && status.fatal) raise(status.code, status.text);
  exchange.clear_status();
}

void Rank::run(const Answers& answers, StreamHandle stream) {
  CallOptions options;
  options.stream = stream;
  Round round(test, answers, rank());
  Received received = exchange.dispatch(round.input(), options);
  synchronize(test.backend, stream);
  const View view = view_of(received);
  round.check(view, log);
  settle_reports(answers);
  const CombineInput input = round.run_experts(received, stream);
  round.spoil_output(stream);
  combine(std::move(received), input, round.output(), stream);
  synchronize(test.backend, stream);
  round.check_output(log);
  if (!test.in_place) round.check(view, log);  // combine leaves what was received alone
}

void leave_under_way(std::unique_ptr<Rank> rank, const Answers& answers, Gate& all_gone) {
  const TestCase& test = rank->test;
  Log& log = rank->log;
  Stream stream(test.backend);
  Round round(test, answers, rank->rank());
  round.spoil_output();
  all_gone.hold_up(stream);
  Received received = rank->exchange.dispatch(round.input(), stream.options());
  const CombineInput from = round.run_experts(received, stream.handle());
  rank->combine(std::move(received), from, round.output(), stream.handle());
  rank.reset();
  all_gone.arrive();
  stream.synchronize();
  round.check_output(log);
}

void run_ranks(const TestCase& test, Log& log, const std::function<void(Rank&)>& body) {
  const ThreadTeam team(test.num_ranks);
  run_threads(test.num_ranks, log, [&](int r) {
    Rank rank(test, team, r, log);
    try {
      body(rank);
    } catch (const std::exception& error) {
      rank.group.abort(error.what());
      throw;
    }
  });
}

std::string run_case(const TestCase& test) {
  if (const Support support = supports(test.config, test.num_ranks); !support)
    return "refused: " + support.reason + "\ncase: " + text_of(test) + "\n";
  std::vector<Answers> rounds;
  for (int round = 0; round < test.rounds; ++round) {
    TestCase next = test;
    next.recipe.seed += static_cast<std::uint64_t>(round);
    rounds.push_back(answers_of(next));
  }
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    for (const Answers& answers : rounds) rank.run(answers);
  });
  return log.empty() ? "" : log.text() + "case: " + text_of(test) + "\n";
}

}  // namespace crossdock::testing
