// SPDX-License-Identifier: Apache-2.0
// Calls of several exchanges on several streams, in another order on every rank, with random delays: none ends at the
// deadline. The same beside a collective, which waits for its peer on a stream of its own.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "support/device_steps.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

using std::chrono::microseconds;

int rounds_wanted() {
  const char* wanted = std::getenv("CROSSDOCK_TEST_ROUNDS");
  return wanted ? std::atoi(wanted) : 300;
}

/// A host thread must not fill a stream: it would wait, with another stream's calls not issued yet.
constexpr int kRoundsUnderWay = 50;

struct Setting {
  int tokens, num_calls;
  Layout layout;
  bool collective;
};

class OneRank {
 public:
  OneRank(const TestCase& test, const Answers& answers, std::vector<ThreadTeam>& teams, int r, std::uint32_t* met,
          Log& log)
      : rank_(r), num_ranks_(test.num_ranks), met_(met), random_(static_cast<unsigned>(r + 1)), others_(test.backend) {
    GroupOptions options = options_of(test.backend, r, std::chrono::seconds(10));
    options.max_concurrent_calls = static_cast<int>(teams.size());
    for (ThreadTeam& team : teams) {
      ranks_.push_back(std::make_unique<Rank>(test, Group::join(team, r, options), log));
      rounds_.push_back(std::make_unique<Round>(test, answers, r));
      streams_.push_back(std::make_unique<Stream>(test.backend));
      inputs_.push_back(rounds_.back()->run_experts(Targets{}, streams_.back()->handle()));
    }
    others_.synchronize();
  }

  void play(int rounds) {
    for (int n = 1; n <= rounds && !failed(); ++n) {
      const std::size_t late = random_() % (streams_.size() + 1);  // where the collective comes in
      for (std::size_t i = 0; i <= streams_.size(); ++i) {
        if (met_ && i == late) others_.meet(met_, n * kMeetBlocks * num_ranks_);
        if (i < streams_.size()) call(rank_ % 2 ? streams_.size() - 1 - i : i);
      }
      if (n % kRoundsUnderWay == 0) synchronize();
    }
    synchronize();
  }
  bool failed() const {
    for (const auto& rank : ranks_)
      if (rank->exchange.poll().fatal) return true;
    return false;
  }
  void check(Log& log) const {
    for (std::size_t c = 0; c < ranks_.size(); ++c) {
      if (const Status status = ranks_[c]->exchange.poll(); status.fatal) log.add(status.text);
      rounds_[c]->check_output(log);
    }
  }

 private:
  void call(std::size_t c) {
    if (random_() % 4 == 0) streams_[c]->pause(microseconds(random_() % 200));
    Received received = ranks_[c]->exchange.dispatch(rounds_[c]->input(), streams_[c]->options());
    if (random_() % 8 == 0) streams_[c]->pause(microseconds(random_() % 100));
    ranks_[c]->combine(std::move(received), inputs_[c], rounds_[c]->output(), streams_[c]->handle());
  }
  void synchronize() {
    for (auto& stream : streams_) stream->synchronize();
    others_.synchronize();
  }

  int rank_, num_ranks_;
  std::uint32_t* met_;
  std::mt19937 random_;
  Stream others_;
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::vector<std::unique_ptr<Round>> rounds_;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<CombineInput> inputs_;
};

std::string play(const Setting& s) {
  TestCase test = small_case(2);
  test.backend = backend_of_tests();
  test.config.hidden = 1024;
  test.config.num_experts = 16;
  test.config.top_k = 4;
  test.config.max_tokens_per_rank = s.tokens;
  test.config.layout = s.layout;
  const Answers answers = answers_of(test);
  use_device(test.backend, 0);
  const Buffer met(test.backend, 8, 0);
  std::vector<ThreadTeam> teams;
  for (int c = 0; c < s.num_calls; ++c) teams.emplace_back(test.num_ranks);
  Log log;
  run_threads(test.num_ranks, log, [&](int r) {
    OneRank rank(test, answers, teams, r, s.collective ? met.as<std::uint32_t>() : nullptr, log);
    rank.play(rounds_wanted());
    rank.check(log);
  });
  std::uint32_t counts[2] = {};
  copy_out(test.backend, counts, met.data(), sizeof counts);
  if (counts[1]) log.add(counts[1], " blocks of the collective waited for ever");
  return log.text();
}

struct WhoMayWait : ::testing::TestWithParam<int> {
  void SetUp() override {
    ASSERT_NE(backend_of_tests(), BackendKind::cpu) << "needs GPUs: CROSSDOCK_BACKEND names them";
  }
};

TEST_P(WhoMayWait, CallsInOppositeOrders) {
  for (const int calls : {2, 4}) EXPECT_EQ(play({GetParam(), calls, Layout::token_major, false}), "") << calls;
  EXPECT_EQ(play({GetParam(), 2, Layout::contiguous, false}), "");
}

TEST_P(WhoMayWait, BesideACollective) {
  if (device_of(backend_of_tests(), 0) != device_of(backend_of_tests(), 1))
    FAIL() << "the stand-in counts on one device: CROSSDOCK_TEST_DEVICES=0,0";
  EXPECT_EQ(play({GetParam(), 2, Layout::token_major, true}), "");
}

INSTANTIATE_TEST_SUITE_P(Tokens, WhoMayWait, ::testing::Values(8, 64, 128, 512, 4096));

}  // namespace
}  // namespace crossdock::testing
