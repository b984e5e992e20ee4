// SPDX-License-Identifier: Apache-2.0
// Epochs cross every wrap of the words that hold a part of them, and fresh memory never counts as a word that has arrived.
#include <gtest/gtest.h>

#include <cstdlib>

#include "op/exchange_state.hpp"
#include "platform/cpu/sanitizers.hpp"
#include "support/fiber_launch.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

/// As if `operations` had run on every buffer set.
void set_clocks(Rank& rank, std::uint64_t operations) {
  const detail::ExchangeState& e = state_of(rank.exchange);
  for (int b = 0; b < e.shape.max_in_flight; ++b)
    for (std::uint64_t& clock :
         e.local<memory::BufferSetState>(e.arena.buffer_set_at(b, e.arena.buffer_set.state))->clock)
      clock = operations * 2;
}

/// Batches grow behind the wrap, so that slots are read that nobody has written before.
std::string run_from(const TestCase& test, std::uint64_t operations) {
  std::vector<Answers> rounds;
  for (std::uint64_t n = 0; n < 6; ++n) {
    TestCase next = test;
    next.recipe.seed = 100 + n;
    const int most = n < 2 ? 3 : test.config.max_tokens_per_rank;
    next.recipe.tokens = oracle::ragged_tokens(test.num_ranks, most, 100 + n);
    rounds.push_back(answers_of(next));
  }
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    set_clocks(rank, operations);
    for (const Answers& answers : rounds) rank.run(answers);
  });
  return log.text();
}

class Epochs : public ::testing::TestWithParam<int> {
 protected:
  Epochs() { ::setenv("CROSSDOCK_PACKET_TOKENS", GetParam() ? "32" : "0", 1); }
  ~Epochs() override { ::unsetenv("CROSSDOCK_PACKET_TOKENS"); }
};

TEST_P(Epochs, CrossEveryWrap) {
  for (const int bits : {30, 31, 32, 63 - 3})  // of a tag, of a half of a word, of a word with a combine mode
    for (const std::uint64_t before : {5, 6})
      for (const int layout : {0, 1, 2})
        for (const bool fibers : {false, true}) {
          if ((XD_ASAN || XD_TSAN) && (bits != 31 + GetParam() / 32 || (fibers && layout != 2))) continue;
          TestCase test = small_case(3);
          test.config.hidden = 160;
          test.config.max_tokens_per_rank = 9;
          test.config.top_k = 3;
          test.config.layout = static_cast<Layout>(layout);
          test.config.num_blocks = before == 6 && !fibers ? 2 : 0;  // in steps
          if (fibers) test.executor = {.width = 32, .num_blocks = 5, .num_threads = 64, .splits_per_row = 2, .seed = 3};
          ASSERT_EQ(run_from(test, (std::uint64_t{1} << bits) - before), "") << bits << " bits, layout " << layout;
        }
}

INSTANTIATE_TEST_SUITE_P(PlainAndPackets, Epochs, ::testing::Values(0, 32));

TEST(Tags, AreNeverThoseOfFreshMemory) {
  for (const std::uint64_t epoch : {0ull, 1ull, (1ull << 31) - 1, 1ull << 31, (1ull << 32) - 1, 1ull << 32, ~0ull}) {
    EXPECT_NE(sync::tag_of(epoch), 0u) << epoch;
    EXPECT_NE(sync::tag_of(epoch), sync::tag_of(epoch + 1)) << epoch;
    EXPECT_NE(sync::tag_of(epoch), sync::tag_of(epoch + 2)) << epoch << ": a slot's own epoch before";
    EXPECT_EQ(sync::epoch_of_tag(sync::tag_of(epoch)), epoch % (1ull << 31));
    EXPECT_EQ(sync::tag_in(sync::count_word(epoch, 77)), sync::tag_of(epoch));
    EXPECT_EQ(sync::value_of(sync::count_word(epoch, 77)), 77u);
  }
}

}  // namespace
}  // namespace crossdock::testing
