// SPDX-License-Identifier: Apache-2.0
#include "support/answers.hpp"

#include <cstring>
#include <iomanip>
#include <type_traits>

#include "oracle/random.hpp"
#include "support/rank_memory.hpp"

namespace crossdock::testing {
namespace {

std::uint64_t payload_seed(const TestCase& test, std::uint64_t payload) {
  return payload == 0 ? test.recipe.seed : oracle::hash_of({test.recipe.seed, payload});
}

std::vector<float> weights_of_caller(const TestCase& test, const oracle::RankAnswer& answer, int rank,
                                     std::uint64_t seed) {
  std::vector<float> weights;
  for (std::int64_t row = 0; row < answer.num_rows; ++row)
    for (int j = 0; j < test.config.top_k; ++j)
      weights.push_back(oracle::token_weight(test.recipe.weight_fill, seed + 77, rank, static_cast<int>(row), j));
  return weights;
}

/// Compares arrays element by element and tells the first difference; `name` says which array of which rank.
struct Comparison {
  BackendKind backend;
  int rank;
  Log& log;

  template <class T>
  std::vector<T> fetch(const T* from, std::int64_t count) const {
    std::vector<T> host(count);
    copy_out(backend, host.data(), from, count * sizeof(T));
    return host;
  }
  template <class A, class B>
  void equal(const char* name, const A& got, const B& right) const {
    if (got != static_cast<A>(right)) log.add("rank ", rank, ": ", name, " = ", got, ", must be ", right);
  }
  /// Bits, not values: a NaN equals itself, -0 is not 0.
  template <class T>
  void same(const char* name, const T* got_on_device, const std::vector<T>& right, std::int64_t per_row = 1) const {
    const std::vector<T> got = fetch(got_on_device, static_cast<std::int64_t>(right.size()));
    if (right.empty() || std::memcmp(got.data(), right.data(), right.size() * sizeof(T)) == 0) return;
    std::size_t i = 0;
    while (std::memcmp(&got[i], &right[i], sizeof(T)) == 0) ++i;
    log.add("rank ", rank, ": ", name, "[", i / per_row, "][", i % per_row, "] = ", show(got[i]), ", must be ",
            show(right[i]));
  }
  template <class T>
  static std::string show(T value) {
    std::ostringstream out;
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    if constexpr (sizeof(T) == 1)
      out << "0x" << std::hex << bits;
    else
      out << value;
    if constexpr (std::is_floating_point_v<T>) out << " (0x" << std::hex << bits << ")";
    return out.str();
  }
  void same_sources(const char* name, const RowSource* on_device, const std::vector<RowSource>& right) const {
    const std::vector<RowSource> got = fetch(on_device, static_cast<std::int64_t>(right.size()));
    const auto words = [](const RowSource& s) {
      return "rank " + std::to_string(s.rank) + " token " + std::to_string(s.token) + " combine slot " +
             std::to_string(s.combine_slot);
    };
    for (std::size_t i = 0; i < right.size(); ++i) {
      if (oracle::same_source(got[i], right[i])) continue;
      log.add("rank ", rank, ": ", name, "[", i, "] = ", words(got[i]), ", must be ", words(right[i]));
      return;
    }
  }
};

void check_counts(const Comparison& compare, const TestCase& test, const oracle::RankAnswer& right, const View& got) {
  const Counts counts = compare.fetch(got.counts, 1)[0];
  compare.equal("counts.num_rows", counts.num_rows, right.num_rows);
  compare.equal("counts.rows_needed", counts.rows_needed, right.rows_needed);
  compare.equal("counts.num_tokens", counts.num_tokens, right.num_tokens);
  compare.equal("counts.bad_ids", counts.bad_ids, right.bad_ids);
  for (int s = 0; s < test.num_ranks; ++s) {
    const std::string of = "_per_source[" + std::to_string(s) + "]";
    compare.equal(("counts.rows" + of).c_str(), counts.rows_per_source[s], right.rows_per_source[s]);
    compare.equal(("counts.dropped" + of).c_str(), counts.dropped_per_source[s], right.dropped_per_source[s]);
  }
  if (test.config.layout == Layout::token_major) return;
  compare.equal("counts.expert_rows_needed", counts.expert_rows_needed, right.experts.rows_needed);
  compare.equal("counts.expert_rows_dropped", counts.expert_rows_dropped, right.experts.rows_dropped);
}

void check_tokens(const Comparison& compare, const TestCase& test, const Answers& all, const View& got) {
  const oracle::RankAnswer& right = all.received[compare.rank];
  const std::int64_t k = test.config.top_k, row_bytes = row_bytes_of(test.config.dispatch_dtype, test.config.hidden);
  compare.equal("row_capacity", got.tokens.row_capacity, oracle::row_capacity(all.shape));
  compare.equal("first_expert", got.tokens.first_expert, compare.rank * oracle::experts_per_rank(all.shape));
  compare.equal("num_local_experts", got.tokens.num_local_experts, oracle::num_local_experts(all.shape, compare.rank));
  compare.same("ids", got.tokens.topk_ids, right.ids, k);
  compare.same("weights", got.tokens.topk_weights, right.weights, k);
  compare.same_sources("sources", got.tokens.sources, right.sources);
  if (test.config.scale_bytes > 0)
    compare.same("scales", static_cast<const std::uint8_t*>(got.tokens.scales), right.scales, test.config.scale_bytes);
  const auto rows = compare.fetch(static_cast<const std::uint8_t*>(got.tokens.rows), right.num_rows * row_bytes);
  for (std::int64_t r = 0; r < right.num_rows; ++r) {
    if (std::memcmp(&rows[r * row_bytes], &right.rows[r * row_bytes], row_bytes) == 0) continue;
    compare.log.add("rank ", compare.rank, ": row ", r, " must be rank ", right.sources[r].rank, " token ",
                    right.sources[r].token, ", is ", oracle::whose_row(all.shape, all.inputs, &rows[r * row_bytes]));
    return;
  }
}

/// The bytes of one expert row: those of its token-major row; zero on padding where that was asked for.
void check_expert_bytes(const Comparison& compare, const TestCase& test, const Answers& all, const View& got,
                        std::int64_t row) {
  const oracle::RankAnswer& right = all.received[compare.rank];
  const std::int64_t row_bytes = row_bytes_of(test.config.dispatch_dtype, test.config.hidden);
  const std::int64_t slot = right.experts.slots[row], scales = test.config.scale_bytes;
  if (slot < 0 && (!test.config.zero_padding || row >= right.experts.offsets.back())) return;
  const auto bytes = compare.fetch(static_cast<const std::uint8_t*>(got.experts.rows) + row * row_bytes, row_bytes);
  if (slot < 0) {
    if (bytes != std::vector<std::uint8_t>(row_bytes))
      compare.log.add("rank ", compare.rank, ": padding row ", row, " of the experts is not zero");
    return;
  }
  if (std::memcmp(bytes.data(), &right.rows[slot * row_bytes], row_bytes) != 0)
    compare.log.add("rank ", compare.rank, ": expert row ", row, " must be row ", slot, ", is ",
                    oracle::whose_row(all.shape, all.inputs, bytes.data()));
  if (scales == 0) return;
  const auto got_scales = compare.fetch(static_cast<const std::uint8_t*>(got.experts.scales) + row * scales, scales);
  if (std::memcmp(got_scales.data(), &right.scales[slot * scales], scales) != 0)
    compare.log.add("rank ", compare.rank, ": scales of expert row ", row, " are not those of row ", slot);
}

void check_experts(const Comparison& compare, const TestCase& test, const Answers& all, const View& got) {
  const oracle::RankAnswer& answer = all.received[compare.rank];
  const oracle::ExpertAnswer& right = answer.experts;
  const bool major = test.config.layout == Layout::expert_major;
  compare.same("expert_offsets", got.experts.offsets, right.offsets);
  compare.equal("capacity_per_expert", got.experts.capacity_per_expert, major ? oracle::expert_capacity(all.shape) : 0);
  if (got.experts.num_rows_max < right.num_rows_max) {
    compare.equal("expert rows", got.experts.num_rows_max, right.num_rows_max);
    return;
  }
  std::vector<RowSource> sources = right.sources;
  std::vector<float> weights = right.weights;
  sources.resize(got.experts.num_rows_max, RowSource{-1, -1, -1, 0});  // of experts that do not exist
  weights.resize(got.experts.num_rows_max, 0.0f);
  compare.same_sources("expert sources", got.experts.sources, sources);
  compare.same("expert weights", got.experts.weights, weights);
  for (std::int64_t row = 0; row < right.num_rows_max; ++row) check_expert_bytes(compare, test, all, got, row);
}

}  // namespace

Answers answers_to(const TestCase& test, std::vector<oracle::RankInput> inputs, std::uint64_t payload) {
  Answers all;
  const std::uint64_t seed = payload_seed(test, payload);
  all.shape = oracle_case(test);
  all.inputs = std::move(inputs);
  all.received = oracle::dispatch_answer(all.shape, all.inputs);
  for (const oracle::RankInput& input : all.inputs) all.narrow_ids.emplace_back(input.ids.begin(), input.ids.end());
  std::vector<oracle::RankOutput> outputs;
  for (int r = 0; r < test.num_ranks; ++r) {
    const oracle::RankAnswer& answer = all.received[r];
    all.outputs.push_back(test.config.fused ? oracle::make_landings(all.shape, answer, r, test.recipe.fill, seed)
                                            : oracle::make_outputs(all.shape, answer, r, test.recipe.fill, seed));
    all.weights.push_back(test.caller_weights ? weights_of_caller(test, answer, r, seed) : std::vector<float>{});
  }
  if (test.config.fused) {
    all.results = oracle::fused_answer(all.shape, all.received, {all.outputs.begin(), all.outputs.end()});
  } else {
    for (int r = 0; r < test.num_ranks; ++r) outputs.push_back({all.outputs[r], all.weights[r]});
    all.results = oracle::combine_answer(all.shape, all.received, outputs);
  }
  return all;
}

Answers answers_of(const TestCase& test, std::uint64_t payload) {
  std::vector<oracle::RankInput> inputs = oracle::make_inputs(oracle_case(test), test.recipe);
  if (payload != 0) {
    oracle::Recipe other = test.recipe;
    other.seed = payload_seed(test, payload);
    const std::vector<oracle::RankInput> others = oracle::make_inputs(oracle_case(test), other);
    for (int r = 0; r < test.num_ranks; ++r) {
      inputs[r].rows = others[r].rows;
      inputs[r].scales = others[r].scales;
    }
  }
  return answers_to(test, std::move(inputs), payload);
}

View view_of(const Received& received) {
  View view;
  view.tokens = received.tokens();
  if (received.has_experts()) view.experts = received.experts();
  view.counts = received.counts();
  view.expert_counts = received.expert_counts();
  return view;
}

void check_received(const TestCase& test, const Answers& all, int rank, const View& got, Log& log) {
  const Comparison compare{test.backend, rank, log};
  check_counts(compare, test, all.received[rank], got);
  compare.same("expert_counts", got.expert_counts, all.received[rank].expert_counts);
  check_tokens(compare, test, all, got);
  if (test.config.layout != Layout::token_major) check_experts(compare, test, all, got);
}

void check_result(const TestCase& test, const Answers& all, int rank, const void* rows, const float* weights,
                  Log& log) {
  const Comparison compare{test.backend, rank, log};
  const oracle::RankResult& right = all.results[rank];
  compare.same("result", static_cast<const std::uint8_t*>(rows), right.rows,
               row_bytes_of(test.config.combine_dtype, test.config.hidden));
  if (weights) compare.same("result weights", weights, right.weights, test.config.top_k);
}

void check_bill(const MemoryUsage& allocated, const Config& config, int num_ranks, BackendKind backend, Log& log) {
  const MemoryUsage told = memory_of(config, num_ranks, backend);
  if (allocated.total_bytes != told.total_bytes)
    log.add("allocated ", allocated.total_bytes, " bytes; memory_of() said ", told.total_bytes);
  std::uint64_t sum = 0;
  for (const RegionBytes& region : told.regions) sum += region.bytes;
  if (sum != told.total_bytes) log.add("the lines of memory_of() add up to ", sum, ", its total is ", told.total_bytes);
}

}  // namespace crossdock::testing
