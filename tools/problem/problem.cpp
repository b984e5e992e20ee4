// SPDX-License-Identifier: Apache-2.0
#include "problem/problem.hpp"

#include <algorithm>
#include <cstring>
#include <thread>

#include "oracle/number.hpp"
#include "oracle/random.hpp"
#include "ranks/ranks.hpp"

namespace crossdock::tools {
namespace {

// Separates the names of rows.
enum DataStream : std::uint64_t { kInputs = 11, kOutputs, kLandings };

constexpr std::int64_t kWindows = std::int64_t{1} << 20;

std::uint64_t word(std::int64_t n) { return static_cast<std::uint64_t>(n); }

/// What the library's configuration and the oracle's case have in common.
void copy_shape(const auto& from, auto& to) {
  to.hidden = from.hidden;
  to.num_experts = from.num_experts;
  to.top_k = from.top_k;
  to.max_tokens_per_rank = from.max_tokens_per_rank;
  to.dispatch_dtype = from.dispatch_dtype;
  to.combine_dtype = from.combine_dtype;
  to.combine_quant = from.combine_quant;
  to.scale_bytes = from.scale_bytes;
  to.layout = from.layout;
  to.row_capacity = from.row_capacity;
  to.expert_capacity = from.expert_capacity;
  to.alignment = from.alignment;
}

/// Ids and weights: of the trace's first tokens, or by formulas.
void make_routing(const Problem& p, int rank, oracle::RankInput& in) {
  const std::size_t count = std::size_t(in.num_tokens) * p.shape.top_k;
  if (p.trace) {
    const auto ids = p.trace->ids_of(rank).first(count);
    const auto weights = p.trace->weights_of(rank).first(count);
    in.ids.assign(ids.begin(), ids.end());
    in.weights.assign(weights.begin(), weights.end());
    return;
  }
  in.ids = oracle::make_ids(p.shape, p.routing, p.seed, rank, in.num_tokens);
  in.weights.reserve(count);
  for (int t = 0; t < in.num_tokens; ++t)
    for (int j = 0; j < p.shape.top_k; ++j) in.weights.push_back(oracle::token_weight(p.fill, p.seed, rank, t, j));
}

oracle::RankInput make_input(const Problem& p, const RowTable& rows, int rank) {
  const oracle::Case& c = p.shape;
  oracle::RankInput in;
  in.num_tokens = p.tokens.empty() ? c.max_tokens_per_rank : p.tokens.at(rank);
  make_routing(p, rank, in);
  in.rows.resize(in.num_tokens * rows.row_bytes());
  in.scales.reserve(std::size_t(in.num_tokens) * c.scale_bytes);
  for (int t = 0; t < in.num_tokens; ++t) {
    const std::uint64_t name = oracle::hash_of({kInputs, p.seed, word(rank), word(t)});
    std::memcpy(in.rows.data() + t * rows.row_bytes(), rows.row(name), rows.row_bytes());
    for (int i = 0; i < c.scale_bytes; ++i) in.scales.push_back(oracle::scale_byte(p.seed, rank, t, i));
  }
  return in;
}

/// Runs work(first, stride) for as many strides as there are processors.
void on_all_processors(int num_items, const std::function<void(int, int)>& work) {
  const int stride = std::clamp<int>(static_cast<int>(std::thread::hardware_concurrency()), 1, std::max(num_items, 1));
  RankThreads(stride).run([&](int first) { work(first, stride); });
}

/// The results of homes first, first + stride, ...: the others seem to have no tokens.
template <class Answer>
void results_of(const Data& data, int first, int stride, std::vector<oracle::RankResult>& results, Answer answer) {
  std::vector<oracle::RankAnswer> answers = data.answers;
  const auto mine = [&](std::size_t r) { return static_cast<int>(r) % stride == first; };
  for (std::size_t r = 0; r < answers.size(); ++r)
    if (!mine(r)) answers[r].num_tokens = 0;
  std::vector<oracle::RankResult> some = answer(answers);
  for (std::size_t r = 0; r < answers.size(); ++r)
    if (mine(r)) results[r] = std::move(some[r]);
}

}  // namespace

Problem problem_of(const Config& config, int num_ranks) {
  Problem p;
  copy_shape(config, p.shape);
  p.shape.num_ranks = num_ranks;
  p.path = config.zero_copy ? Path::zero_copy : config.fused ? Path::fused : Path::staged;
  return p;
}

void follow_trace(Problem& p, std::shared_ptr<const Trace> trace, int max_tokens_per_rank) {
  p.shape.num_ranks = trace->num_ranks();
  p.shape.num_experts = trace->num_experts;
  p.shape.top_k = trace->top_k;
  p.shape.max_tokens_per_rank = max_tokens_per_rank;
  p.tokens.clear();
  for (const int tokens : trace->tokens) p.tokens.push_back(std::min(tokens, max_tokens_per_rank));
  p.trace = std::move(trace);
}

std::string_view routing_name(const Problem& p) { return p.trace ? "trace" : oracle::name_of(p.routing); }

bool favours_experts(const Problem& p) {
  using enum oracle::Routing;
  constexpr oracle::Routing kToAllAlike[] = {random, distinct_ranks, duplicates, holes, bad, bad64};
  return p.trace || std::find(std::begin(kToAllAlike), std::end(kToAllAlike), p.routing) == std::end(kToAllAlike);
}

Config config_of(const Problem& p) {
  Config config;
  copy_shape(p.shape, config);
  config.zero_padding = p.zero_padding;
  config.zero_copy = p.path == Path::zero_copy;
  config.fused = p.path == Path::fused;
  config.combine_topk_weights = p.second_result;
  config.trace_events = p.trace_events;
  return config;
}

bool uses_ll_packets(const Problem& p) {
  const MemoryUsage memory = memory_of(config_of(p), p.shape.num_ranks);
  return std::any_of(memory.regions.begin(), memory.regions.end(), [](const RegionBytes& region) {
    return region.name == "buffer_set.ll_packets" && region.bytes > 0;
  });
}

RowTable::RowTable(Dtype dtype, oracle::Fill fill, std::uint64_t seed, std::int64_t hidden)
    : row_bytes_(row_bytes_of(dtype, hidden)), step_bytes_(std::max(1, bits_of(dtype) / 8)) {
  const std::int64_t count = kWindows + hidden;
  codes_.resize(row_bytes_of(dtype, count + count % 2));
  for (std::int64_t i = 0; i < count; ++i)
    oracle::write_code(dtype, codes_.data(), i, oracle::token_code(dtype, fill, seed, 0, 0, i));
}

const std::byte* RowTable::row(std::uint64_t name) const {
  const std::int64_t windows = (static_cast<std::int64_t>(codes_.size()) - row_bytes_) / step_bytes_;
  return reinterpret_cast<const std::byte*>(codes_.data() +
                                            word(windows) * (name >> 32) / (word(1) << 32) * step_bytes_);
}

Data::Data(const Problem& p)
    : problem(p),
      outputs(p.shape.combine_dtype, p.fill, p.seed + 1, p.shape.hidden),
      inputs(p.shape.num_ranks),
      narrow_ids(p.shape.num_ranks) {
  const RowTable rows(p.shape.dispatch_dtype, p.fill, p.seed, p.shape.hidden);
  on_all_processors(p.shape.num_ranks, [&](int first, int stride) {
    for (int r = first; r < p.shape.num_ranks; r += stride) {
      inputs[r] = make_input(p, rows, r);
      if (p.routing != oracle::Routing::bad64) narrow_ids[r].assign(inputs[r].ids.begin(), inputs[r].ids.end());
    }
  });
  answers = oracle::dispatch_answer(p.shape, inputs, false);
}

const std::byte* Data::output_row(int owner, const RowSource& source, int expert) const {
  return outputs.row(
      oracle::hash_of({kOutputs, problem.seed, word(owner), word(source.rank), word(source.token), word(expert)}));
}

const std::byte* Data::combine_slot(int home, int token, int j) const {
  return outputs.row(oracle::hash_of({kLandings, problem.seed, word(home), word(token), word(j)}));
}

DispatchInput input_of(const Data& data, int rank, RankMemory& memory) {
  const auto bring = [&](const auto& values) {
    return memory.for_exchange(values.data(), values.size() * sizeof(values[0]));
  };
  const oracle::RankInput& from = data.inputs[rank];
  DispatchInput in;
  in.tokens = bring(from.rows);
  in.topk_ids_are_int64 = data.problem.routing == oracle::Routing::bad64;
  in.topk_ids = in.topk_ids_are_int64 ? static_cast<const void*>(bring(from.ids)) : bring(data.narrow_ids[rank]);
  in.topk_weights = bring(from.weights);
  in.scales = bring(from.scales);
  in.num_tokens = from.num_tokens;
  return in;
}

std::int64_t output_bytes(const Data& data, int rank) {
  const oracle::RankAnswer& answer = data.answers[rank];
  const std::vector<std::int64_t>& slots = answer.experts.slots;
  std::int64_t rows = answer.num_rows;
  if (data.problem.shape.layout != Layout::token_major)
    rows = std::find_if(slots.rbegin(), slots.rend(), [](std::int64_t s) { return s >= 0; }).base() - slots.begin();
  return rows * data.outputs.row_bytes();
}

void write_outputs(const Data& data, int rank, std::byte* to) {
  const oracle::Case& c = data.problem.shape;
  const oracle::RankAnswer& answer = data.answers[rank];
  const std::int64_t bytes = data.outputs.row_bytes();
  if (c.layout == Layout::token_major) {
    for (std::int64_t slot = 0; slot < answer.num_rows; ++slot)
      std::memcpy(to + slot * bytes, data.output_row(rank, answer.sources[slot], -1), bytes);
    return;
  }
  for (std::size_t x = 0; x < answer.expert_counts.size(); ++x) {
    const int expert = rank * oracle::experts_per_rank(c) + static_cast<int>(x);
    for (std::int64_t n = 0; n < answer.expert_counts[x]; ++n) {
      const std::int64_t row = answer.experts.offsets[x] + n;
      std::memcpy(to + row * bytes, data.output_row(rank, answer.experts.sources[row], expert), bytes);
    }
  }
}

void put_outputs(const Data& data, int rank, std::byte* to, Machine& machine) {
  if (machine.is_host()) return write_outputs(data, rank, to);
  const Pages pages(static_cast<std::size_t>(output_bytes(data, rank)));
  write_outputs(data, rank, pages.data());
  machine.copy(to, pages.data(), pages.bytes());
}

void write_landings(const Data& data, int rank, const Received& received, Machine& machine) {
  const oracle::Case& c = data.problem.shape;
  const oracle::RankAnswer& answer = data.answers[rank];
  const std::int64_t bytes = data.outputs.row_bytes();
  for (std::int64_t slot = 0; slot < answer.num_rows; ++slot) {
    const RowSource& home = answer.sources[slot];
    for (int j = 0; j < c.top_k; ++j) {
      const std::int32_t id = answer.ids[slot * c.top_k + j];
      if (id < 0 || oracle::rank_of_expert(c, id) != rank) continue;
      auto* rows = static_cast<std::byte*>(received.combine_slots(home.rank));
      machine.copy(rows + (std::int64_t{home.token} * c.top_k + j) * bytes, data.combine_slot(home.rank, home.token, j),
                   static_cast<std::size_t>(bytes));
    }
  }
}

std::vector<oracle::RankResult> expected_results(const Data& data) {
  const oracle::Case& c = data.problem.shape;
  const bool fused = data.problem.path == Path::fused;
  const std::int64_t bytes = data.outputs.row_bytes();
  std::vector<Pages> rows(c.num_ranks);
  std::vector<oracle::RankOutput> outputs(c.num_ranks);
  std::vector<std::span<const std::uint8_t>> landings(c.num_ranks);
  on_all_processors(c.num_ranks, [&](int first, int stride) {
    for (int r = first; r < c.num_ranks; r += stride) {
      const std::int64_t tokens = data.answers[r].num_tokens;
      rows[r] = Pages(fused ? tokens * c.top_k * bytes : output_bytes(data, r));
      for (std::int64_t i = 0; fused && i < tokens * c.top_k; ++i) {
        const int t = static_cast<int>(i / c.top_k), j = static_cast<int>(i % c.top_k);
        if (data.answers[r].kept_ids[t] >> j & 1)
          std::memcpy(rows[r].data() + i * bytes, data.combine_slot(r, t, j), bytes);
      }
      if (!fused) write_outputs(data, r, rows[r].data());
      outputs[r].rows = landings[r] = {rows[r].as<const std::uint8_t>(), rows[r].bytes()};
    }
  });
  std::vector<oracle::RankResult> results(c.num_ranks);
  on_all_processors(c.num_ranks, [&](int first, int stride) {
    results_of(data, first, stride, results, [&](const std::vector<oracle::RankAnswer>& answers) {
      return fused ? oracle::fused_answer(c, answers, landings) : oracle::combine_answer(c, answers, outputs);
    });
  });
  return results;
}

std::int64_t rows_received(const Data& data) {
  std::int64_t rows = 0;
  for (const oracle::RankAnswer& answer : data.answers) rows += answer.num_rows;
  return rows;
}

}  // namespace crossdock::tools
