// SPDX-License-Identifier: Apache-2.0
// One graph, replayed thousands of times without the host: every replay takes the next of 16 sets that differ in rows,
// routing, weights, scales and T, ranks are late by random times, and each delivery and each result is compared where it lies.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "support/device_steps.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

constexpr int kSets = 16, kMostLateUs = 60;

int num_replays() {
  const char* asked = std::getenv("CROSSDOCK_TEST_REPLAYS");
  return asked ? std::atoi(asked) : backend_of_tests() == BackendKind::cpu ? 160 : 1600;
}

/// The same block of each set, in device memory.
class Block {
 public:
  template <class BytesOf>
  Block(BackendKind backend, BytesOf bytes_of) {
    std::vector<std::vector<std::uint8_t>> versions;
    std::vector<std::int64_t> bytes;
    for (int n = 0; n < kSets; ++n) {
      versions.push_back(bytes_of(n));
      versions.back().resize((versions.back().size() + 3) / 4 * 4);
      bytes.push_back(static_cast<std::int64_t>(versions.back().size()));
      stride_ = std::max(stride_, (bytes.back() + 15) / 16 * 16);
    }
    base_ = Buffer(backend, static_cast<std::size_t>(stride_ * kSets));
    bytes_ = Buffer(backend, sizeof(std::int64_t) * kSets);
    for (int n = 0; n < kSets; ++n)
      copy_in(backend, base_.as<std::uint8_t>() + n * stride_, versions[n].data(), versions[n].size());
    copy_in(backend, bytes_.data(), bytes.data(), sizeof(std::int64_t) * kSets);
  }
  Versions versions() const { return {base_.as<std::uint8_t>(), stride_, bytes_.as<std::int64_t>(), kSets}; }

 private:
  std::int64_t stride_ = 0;
  Buffer base_, bytes_;
};

template <class T>
std::vector<std::uint8_t> bytes_of(const std::vector<T>& values) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(values.data());
  return {first, first + values.size() * sizeof(T)};
}

std::vector<Answers> sets_of(TestCase& test) {
  std::vector<Answers> sets;
  for (std::uint64_t seed = 1; seed <= kSets; ++seed) {
    test.recipe.seed = seed;
    test.recipe.routing = oracle::kRoutings[seed % std::size(oracle::kRoutings)];
    if (test.recipe.routing == oracle::Routing::bad64)
      test.recipe.routing = oracle::Routing::bad;  // ids are int32 here
    test.recipe.tokens = oracle::ragged_tokens(test.num_ranks, test.config.max_tokens, seed);
    if (seed == kSets) test.recipe.tokens.assign(static_cast<std::size_t>(test.num_ranks), 0);
    sets.push_back(answers_of(test));
  }
  return sets;
}

/// Everything that one rank's graph reads and compares with.
struct Material {
  Material(const TestCase& test, const std::vector<Answers>& sets, int rank)
      : rows(test.backend, [&](int n) { return sets[n].inputs[rank].rows; }),
        ids(test.backend, [&](int n) { return bytes_of(sets[n].narrow_ids[rank]); }),
        weights(test.backend, [&](int n) { return bytes_of(sets[n].inputs[rank].weights); }),
        scales(test.backend, [&](int n) { return sets[n].inputs[rank].scales; }),
        num_tokens(test.backend,
                   [&](int n) { return bytes_of(std::vector<std::int32_t>{sets[n].inputs[rank].num_tokens}); }),
        outputs(test.backend, [&](int n) { return sets[n].outputs[rank]; }),
        received(test.backend, [&](int n) { return sets[n].received[rank].rows; }),
        sources(test.backend, [&](int n) { return bytes_of(sets[n].received[rank].ids); }),
        received_weights(test.backend, [&](int n) { return bytes_of(sets[n].received[rank].weights); }),
        results(test.backend, [&](int n) { return sets[n].results[rank].rows; }),
        turn(test.backend, sizeof(Turn), 0),
        difference(test.backend, sizeof(Difference), 0) {}
  Block rows, ids, weights, scales, num_tokens, outputs, received, sources, received_weights, results;
  Buffer turn, difference;
};

/// Contents by the device's own choice, in buffers with room for M tokens.
struct Places {
  Places(const TestCase& test, const Answers& any)
      : rows(test.backend,
             std::int64_t{test.config.max_tokens} * row_bytes_of(test.config.dispatch_dtype, test.config.hidden)),
        ids(test.backend, std::int64_t{test.config.max_tokens} * test.config.top_k * 4),
        weights(test.backend, ids.bytes()),
        scales(test.backend, std::int64_t{test.config.max_tokens} * std::max(test.config.scale_bytes, 4)),
        num_tokens(test.backend, 16),
        outputs(test.backend,
                oracle::row_capacity(any.shape) * row_bytes_of(test.config.combine_dtype, test.config.hidden)),
        result(test.backend,
               std::int64_t{test.config.max_tokens} * row_bytes_of(test.config.combine_dtype, test.config.hidden)) {}
  Buffer rows, ids, weights, scales, num_tokens, outputs, result;
};

/// One replay: the next set, a delay, dispatch, a look at it, the experts, combine, a look at its result.
void enqueue_round(Rank& rank, Stream& stream, const Material& m, const Places& p) {
  const StreamHandle s = stream.handle();
  const Turn* turn = m.turn.as<Turn>();
  const auto compare = [&](const void* is, const Block& should, int what) {
    enqueue_compare(s, turn, is, should.versions(), what, m.difference.as<Difference>());
  };
  enqueue_next_turn(s, m.turn.as<Turn>());
  for (const auto& [to, from] : {std::pair<const Buffer*, const Block*>{&p.rows, &m.rows},
                                 {&p.ids, &m.ids},
                                 {&p.weights, &m.weights},
                                 {&p.scales, &m.scales},
                                 {&p.num_tokens, &m.num_tokens}})
    enqueue_choose(s, turn, to->data(), from->versions());
  enqueue_delay(s, turn, rank.rank(), kMostLateUs);
  DispatchInput input;
  input.rows = p.rows.data();
  input.ids = p.ids.data();
  input.weights = p.weights.as<float>();
  input.scales = rank.test.config.scale_bytes ? p.scales.data() : nullptr;
  input.num_tokens_on_device = p.num_tokens.as<std::int32_t>();
  Received received = rank.exchange.dispatch(input, stream.options());
  const TokenRows tokens = received.tokens();
  compare(tokens.rows, m.received, 1);
  compare(tokens.ids, m.sources, 2);
  compare(tokens.weights, m.received_weights, 3);
  void* outputs = rank.test.config.zero_copy ? received.combine_buffer().data : p.outputs.data();
  enqueue_choose(s, turn, outputs, m.outputs.versions());
  enqueue_delay(s, turn, rank.rank() + 4, kMostLateUs);
  rank.exchange.combine(std::move(received), {.rows = outputs}, {.rows = p.result.data()}, stream.options());
  compare(p.result.data(), m.results, 4);
}

/// Gives the number of rounds that every rank has made.
void replay(TestCase test, bool spoil = false) {
  std::vector<Answers> sets = sets_of(test);
  if (spoil && !sets[2].results[1].rows.empty()) sets[2].results[1].rows[0] ^= 1;
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Stream stream;
    const Material material(test, sets, rank.rank());
    const Places places(test, sets[0]);
    stream.begin_capture();
    enqueue_round(rank, stream, material, places);
    const Graph graph = stream.end_capture();
    const int replays = num_replays();
    for (int n = 0; n < replays; ++n) stream.replay(graph);
    stream.synchronize();
    Turn turns = 0;
    Difference found{};
    copy_out(test.backend, &turns, material.turn.data(), sizeof turns);
    copy_out(test.backend, &found, material.difference.data(), sizeof found);
    if (turns != static_cast<Turn>(replays)) log.add("rank ", rank.rank(), ": ", turns, " of ", replays, " replays");
    constexpr const char* kWhat[] = {"nothing", "received rows", "received ids", "received weights", "the result"};
    if (found.number)
      log.add("rank ", rank.rank(), ": ", found.number, " words differ, first in ", kWhat[found.what], " of turn ",
              found.turn - 1);
    const Status status = rank.exchange.poll();
    const bool has_bad_ids = std::any_of(sets.begin(), sets.end(),
                                         [&](const Answers& set) { return set.received[rank.rank()].bad_ids > 0; });
    if (status.code != (has_bad_ids ? StatusCode::usage : StatusCode::ok) || status.fatal)
      log.add("rank ", rank.rank(), has_bad_ids ? ": bad ids were not reported: " : ": reported: ", status.text);
  });
  if (spoil)
    EXPECT_NE(log.text().find("rank 1: "), std::string::npos) << "a wrong answer was not noticed: " << log.text();
  else
    EXPECT_EQ(log.text(), "") << text_of(test);
}

/// As many ranks as there are GPUs, up to four.
TestCase replay_case() {
  int ranks = 3;
  if (const BackendKind backend = backend_of_tests(); backend != BackendKind::cpu)
    for (ranks = 1; ranks < 4 && device_of(backend, ranks) == ranks;) ++ranks;
  TestCase test = small_case(ranks);
  test.config.max_tokens = 24;
  test.config.num_experts = 16;
  test.config.top_k = 4;
  test.config.hidden = 256;
  test.config.scale_bytes = 8;
  return test;
}

TEST(Replays, Staged) { replay(replay_case()); }

TEST(Replays, ZeroCopy) {
  TestCase test = replay_case();
  test.config.zero_copy = true;
  replay(test);
}

TEST(Replays, Block128) {
  TestCase test = replay_case();
  test.config.combine_wire = Wire::fp8_block128;
  replay(test);
}

/// More tokens than a block places at once.
TEST(Replays, ManyTokens) {
  TestCase test = replay_case();
  test.config.max_tokens = 200;
  test.config.dispatch_dtype = Dtype::fp8_e4m3;
  replay(test);
}

TEST(Replays, AWrongWordIsNoticed) {
  if (replay_case().num_ranks < 2) GTEST_SKIP() << "needs two ranks";
  replay(replay_case(), true);
}

}  // namespace
}  // namespace crossdock::testing
