// SPDX-License-Identifier: Apache-2.0
// One graph, replayed thousands of times without the host: every replay takes the next of 16 sets that differ in rows,
// routing, weights, scales and T, ranks are late by random times, and everything that a delivery and a result hold is
// compared where it lies.
#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "multirank/replay_sets.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

constexpr int kSets = 16, kMaxLateUs = 60;

int num_replays() {
  const char* asked = std::getenv("CROSSDOCK_TEST_REPLAYS");
  return asked ? std::atoi(asked) : backend_of_tests() == BackendKind::cpu ? 160 : 1600;
}
/// Of the cases beside the main ones; every set comes up.
int fewer_replays() { return std::max(2 * kSets, num_replays() / 5); }

std::vector<Answers> sets_of(TestCase& test) {
  std::vector<Answers> sets;
  for (std::uint64_t seed = 1; seed <= kSets; ++seed) {
    test.recipe.seed = seed;
    test.recipe.routing = oracle::kRoutings[seed % std::size(oracle::kRoutings)];
    if (test.recipe.routing == oracle::Routing::bad64)
      test.recipe.routing = oracle::Routing::bad;  // ids are int32 here
    test.recipe.tokens = oracle::ragged_tokens(test.num_ranks, test.config.max_tokens_per_rank, seed);
    if (seed == kSets) test.recipe.tokens.assign(static_cast<std::size_t>(test.num_ranks), 0);
    sets.push_back(answers_of(test));
  }
  return sets;
}

/// Along a kept plan: one routing, other rows, scales and outputs. No bad ids: once they are reported, calls are refused.
std::vector<Answers> payloads_of(TestCase& test) {
  test.recipe.routing = oracle::Routing::holes;
  test.recipe.tokens = oracle::ragged_tokens(test.num_ranks, test.config.max_tokens_per_rank, 3);
  std::vector<Answers> sets;
  for (std::uint64_t payload = 1; payload <= kSets; ++payload) sets.push_back(answers_of(test, payload));
  return sets;
}

/// Turns one bit that matters, in the first set that has one. False: there is none.
bool debug_fill(std::vector<Masked>& versions) {
  for (Masked& version : versions)
    for (std::size_t i = 0; i < version.bytes.size(); ++i) {
      if (!version.mask.empty() && version.mask[i] == 0) continue;
      version.bytes[i] ^= 1;
      return true;
    }
  return false;
}

/// Everything that one rank's graph reads and compares with. `spoilt`: rank 0 takes a wrong answer there for right.
struct Material {
  Material(const TestCase& test, const std::vector<Answers>& sets, int rank, std::optional<Look> spoilt)
      : rows(block(test, sets, [&](const Answers& set) { return set.inputs[rank].rows; })),
        ids(block(test, sets, [&](const Answers& set) { return bytes_of(set.narrow_ids[rank]); })),
        weights(block(test, sets, [&](const Answers& set) { return bytes_of(set.inputs[rank].weights); })),
        scales(block(test, sets, [&](const Answers& set) { return set.inputs[rank].scales; })),
        num_tokens(
            block(test, sets, [&](const Answers& set) { return bytes_of(std::vector{set.inputs[rank].num_tokens}); })),
        turn(test.backend, sizeof(Turn), 0),
        difference(test.backend, sizeof(Difference), 0) {
    if (test.config.fused)
      for (int home = 0; home < test.num_ranks; ++home)
        outputs.emplace_back(test.backend, kSets,
                             [&](std::size_t n) { return landings_of(test, sets[n], rank, home); });
    else
      outputs.push_back(block(test, sets, [&](const Answers& set) { return set.outputs[rank]; }));
    for (int look = 0; look < kNumLooks; ++look) {
      std::vector<Masked> versions;
      for (const Answers& set : sets)
        versions.push_back(has(test, Look{look}) ? right_of(test, set, rank, Look{look}) : Masked{});
      if (rank == 0 && spoilt == Look{look} && !debug_fill(versions))
        throw std::runtime_error("there is nothing to debug_fill");
      right.emplace_back(test.backend, kSets, [&](std::size_t n) { return versions[n]; });
    }
  }
  template <class Of>
  static Block block(const TestCase& test, const std::vector<Answers>& sets, Of of) {
    return {test.backend, kSets, [&](std::size_t n) { return Masked{of(sets[n])}; }};
  }

  Block rows, ids, weights, scales, num_tokens;
  std::vector<Block> outputs;  // of the experts; fused: at every home
  std::vector<Block> right;    // by look
  Buffer turn, difference;
};

/// Contents by the device's own choice, in buffers with room for M tokens.
struct Places {
  Places(const TestCase& test, const Answers& any, int rank)
      : rows(buffer(test,
                    test.config.max_tokens_per_rank * row_bytes_of(test.config.dispatch_dtype, test.config.hidden))),
        ids(buffer(test, std::int64_t{test.config.max_tokens_per_rank} * test.config.top_k * 4)),
        weights(buffer(test, std::int64_t{test.config.max_tokens_per_rank} * test.config.top_k * 4)),
        scales(buffer(test, std::int64_t{test.config.max_tokens_per_rank} * test.config.scale_bytes)),
        num_tokens(buffer(test, 4)),
        outputs(buffer(test, (test.config.layout == Layout::token_major ? oracle::row_capacity(any.shape)
                                                                        : any.received[rank].experts.num_rows_max) *
                                 row_bytes_of(test.config.combine_dtype, test.config.hidden))),
        result(buffer(test,
                      test.config.max_tokens_per_rank * row_bytes_of(test.config.combine_dtype, test.config.hidden))),
        result_weights(buffer(test, std::int64_t{test.config.max_tokens_per_rank} * test.config.top_k * 4)) {}
  static Buffer buffer(const TestCase& test, std::int64_t bytes) {
    return {test.backend, static_cast<std::size_t>(std::max<std::int64_t>(bytes, 16))};
  }
  Buffer rows, ids, weights, scales, num_tokens, outputs, result, result_weights;
};

/// One rank's graph.
class Replayed {
 public:
  Replayed(Rank& rank, const std::vector<Answers>& sets, std::optional<Look> spoilt)
      : rank_(rank), m_(rank.test, sets, rank.rank(), spoilt), p_(rank.test, sets[0], rank.rank()) {}

  /// The next set, a delay, dispatch, a look at it, the experts, combine, a look at its result.
  void record_round() {
    stream_.begin_capture();
    enqueue_next_turn(stream_.handle(), m_.turn.as<Turn>());
    choose_input();
    deliver(rank_.exchange.dispatch(input(), stream_.options()));
    graph_ = stream_.end_capture();
  }

  /// The same along a plan that one call has kept; then once more the way back alone.
  void record_round_of_plan() {
    choose_input();
    Received first = rank_.exchange.dispatch(input(), stream_.options());
    plan_ = first.retain_plan();
    const CombineInput from = run_experts(first);
    rank_.combine(std::move(first), from, output(), stream_.handle());
    stream_.begin_capture();
    enqueue_next_turn(stream_.handle(), m_.turn.as<Turn>());
    choose_input();
    const CombineInput again = deliver(rank_.exchange.dispatch(*plan_, input(), stream_.options()));
    late(8);
    rank_.exchange.combine(*plan_, again, output(), stream_.options());
    look_at_results();
    graph_ = stream_.end_capture();
  }

  void replay(int times) {
    for (int n = 0; n < times; ++n) stream_.replay(graph_);
    stream_.synchronize();
    Turn turns = 0;
    Difference found{};
    copy_out(rank_.test.backend, &turns, m_.turn.data(), sizeof turns);
    copy_out(rank_.test.backend, &found, m_.difference.data(), sizeof found);
    if (turns != static_cast<Turn>(times)) rank_.log.add("rank ", rank_.rank(), ": ", turns, " of ", times, " replays");
    if (found.number)
      rank_.log.add("rank ", rank_.rank(), ": ", found.number, " words differ, first in ", kLooks[found.what],
                    " of turn ", found.turn - 1);
  }

 private:
  const Turn* turn() const { return m_.turn.as<Turn>(); }
  void choose(void* to, const Block& from) { enqueue_choose(stream_.handle(), turn(), to, from.versions()); }
  void late(int salt) { enqueue_delay(stream_.handle(), turn(), rank_.rank() + salt, kMaxLateUs); }
  void look(Look look, const void* is) {
    if (!has(rank_.test, look)) return;
    const int what = static_cast<int>(look);
    enqueue_compare(stream_.handle(), turn(), is, m_.right[what].versions(), what, m_.difference.as<Difference>());
  }

  void choose_input() {
    choose(p_.rows.data(), m_.rows);
    choose(p_.ids.data(), m_.ids);
    choose(p_.weights.data(), m_.weights);
    choose(p_.scales.data(), m_.scales);
    choose(p_.num_tokens.data(), m_.num_tokens);
    late(0);
  }
  DispatchInput input() const {
    DispatchInput in;
    in.tokens = p_.rows.data();
    in.topk_ids = p_.ids.data();
    in.topk_weights = p_.weights.as<float>();
    in.scales = rank_.test.config.scale_bytes ? p_.scales.data() : nullptr;
    in.num_tokens_on_device = p_.num_tokens.as<std::int32_t>();
    return in;
  }

  void look_at(const Received& received) {
    const View view = view_of(received);
    look(Look::rows, view.tokens.rows);
    look(Look::scales, view.tokens.scales);
    look(Look::ids, view.tokens.topk_ids);
    look(Look::weights, view.tokens.topk_weights);
    look(Look::sources, view.tokens.sources);
    look(Look::counts, view.counts);
    look(Look::expert_counts, view.expert_counts);
    look(Look::expert_rows, view.experts.rows);
    look(Look::expert_scales, view.experts.scales);
    look(Look::expert_weights, view.experts.weights);
    look(Look::expert_sources, view.experts.sources);
    look(Look::expert_offsets, view.experts.offsets);
  }
  CombineInput run_experts(const Received& received) {
    const Targets targets = targets_of(received, rank_.test);
    CombineInput in;
    in.combine_topk_weights = rank_.test.combine_topk_weights;
    if (rank_.test.config.fused) {
      for (int home = 0; home < rank_.test.num_ranks; ++home) choose(targets.combine_slots[home], m_.outputs[home]);
      return in;
    }
    in.rows = targets.combine_buffer ? targets.combine_buffer : p_.outputs.data();
    choose(const_cast<void*>(in.rows), m_.outputs[0]);
    return in;
  }
  CombineOutput output() const {
    return {.rows = p_.result.data(),
            .topk_weights = rank_.test.combine_topk_weights ? p_.result_weights.as<float>() : nullptr};
  }
  void look_at_results() {
    look(Look::result, p_.result.data());
    look(Look::result_weights, p_.result_weights.data());
  }
  CombineInput deliver(Received received) {
    look_at(received);
    const CombineInput from = run_experts(received);
    late(4);
    rank_.combine(std::move(received), from, output(), stream_.handle());
    look_at_results();
    return from;
  }

  Rank& rank_;
  Stream stream_;
  const Material m_;
  const Places p_;
  std::optional<Plan> plan_;
  Graph graph_;
};

/// What poll() must say after replays of `sets`.
void check_reports(Rank& rank, const std::vector<Answers>& sets) {
  const Status status = rank.exchange.poll();
  const bool has_bad_ids =
      std::any_of(sets.begin(), sets.end(), [&](const Answers& set) { return set.received[rank.rank()].bad_ids > 0; });
  if (status.code != (has_bad_ids ? StatusCode::usage : StatusCode::ok) || status.fatal)
    rank.log.add("rank ", rank.rank(), has_bad_ids ? ": bad ids were not reported: " : ": reported: ", status.text);
}

std::string differences(const TestCase& test, const std::vector<Answers>& sets, int replays, bool along_plan,
                        std::optional<Look> spoilt = {}) {
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Replayed replayed(rank, sets, spoilt);
    along_plan ? replayed.record_round_of_plan() : replayed.record_round();
    replayed.replay(replays);
    check_reports(rank, sets);
  });
  return log.text();
}

void replay(TestCase test, int replays) {
  const std::vector<Answers> sets = sets_of(test);
  EXPECT_EQ(differences(test, sets, replays, false), "") << text_of(test);
}

/// As many ranks as there are GPUs.
TestCase replay_case() {
  int ranks = 3;
  if (const BackendKind backend = backend_of_tests(); backend != BackendKind::cpu)
    for (ranks = 1; ranks < kMaxRanks && device_of(backend, ranks) == ranks;) ++ranks;
  TestCase test = small_case(ranks);
  test.config.max_tokens_per_rank = 24;
  test.config.num_experts = 16;
  test.config.top_k = 4;
  test.config.hidden = 256;
  test.config.scale_bytes = 8;
  return test;
}
TestCase replay_case_by_expert(Layout layout) {
  TestCase test = replay_case();
  test.config.layout = layout;
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  return test;
}

TEST(Replays, Staged) { replay(replay_case(), num_replays()); }

TEST(Replays, ZeroCopy) {
  TestCase test = replay_case();
  test.config.zero_copy = true;
  replay(test, num_replays());
}

TEST(Replays, Block128) {
  TestCase test = replay_case();
  test.config.combine_quant = CombineQuant::fp8_blockwise;
  replay(test, num_replays());
}

/// More tokens than a block places at once.
TEST(Replays, ManyTokens) {
  TestCase test = replay_case();
  test.config.max_tokens_per_rank = 200;
  test.config.dispatch_dtype = Dtype::fp8_e4m3;
  replay(test, num_replays());
}

TEST(Replays, DirectCast) {
  TestCase test = replay_case();
  test.config.combine_quant = CombineQuant::fp8_direct_cast;
  replay(test, fewer_replays());
}

TEST(Replays, ExpertMajor) { replay(replay_case_by_expert(Layout::expert_major), fewer_replays()); }

TEST(Replays, Contiguous) {
  TestCase test = replay_case_by_expert(Layout::contiguous);
  test.config.alignment = 8;
  test.config.zero_padding = true;
  replay(test, fewer_replays());
}

/// Kernels of the graph write partial rows at their homes.
TEST(Replays, Fused) {
  TestCase test = replay_case();
  test.config.fused = true;
  replay(test, fewer_replays());
}

/// Ranks that receive more than they have room for: the rows beyond are dropped, in every replay the same.
TEST(Replays, ACapacityThatIsTooSmall) {
  TestCase test = replay_case();
  test.config.row_capacity = 10;
  const std::vector<Answers> sets = sets_of(test);
  const auto drops = [](const Answers& set) { return set.received[0].rows_needed > set.received[0].num_rows; };
  EXPECT_GT(std::count_if(sets.begin(), sets.end(), drops), kSets / 4) << "rank 0 has room for nearly all";
  EXPECT_EQ(differences(test, sets, fewer_replays(), false), "") << text_of(test);
}

TEST(Replays, AKeptPlan) {
  for (const bool zero_copy : {false, true}) {
    TestCase test = replay_case();
    test.config.combine_topk_weights = test.combine_topk_weights = true;
    test.config.zero_copy = zero_copy;
    const std::vector<Answers> sets = payloads_of(test);
    EXPECT_EQ(differences(test, sets, fewer_replays(), true), "") << text_of(test);
  }
}

/// Every comparison can fail, and says what was wrong.
TEST(Replays, AWrongWordIsNoticed) {
  TestCase test = replay_case_by_expert(Layout::expert_major);
  const std::vector<Answers> sets = sets_of(test);
  for (int look = 0; look < kNumLooks; ++look) {
    ASSERT_TRUE(has(test, Look{look})) << kLooks[look] << " are not in this case";
    const std::string text = differences(test, sets, kSets, false, Look{look});
    EXPECT_EQ(text.rfind("rank 0: 1 words differ, first in " + std::string(kLooks[look]), 0), 0u)
        << "a wrong word in " << kLooks[look] << " was not noticed, or something else was: " << text;
  }
}

}  // namespace
}  // namespace crossdock::testing
