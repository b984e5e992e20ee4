// SPDX-License-Identifier: Apache-2.0
// Bad input: each is refused with the values, the rank and the rule, enqueues nothing and moves no epoch. After every
// refusal the same rank makes the right call and the whole group agrees with the oracle.
#include <gtest/gtest.h>

#include <optional>

#include "op/exchange_state.hpp"
#include "support/fiber_launch.hpp"
#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

using Words = std::vector<std::string>;

/// Number of operations that this rank has begun on place 0.
std::uint64_t epoch_of(Rank& rank) {
  const kernels::Call call = state_of(rank.exchange).call(0, 0);
  std::uint64_t clock = 0;
  copy_out(rank.test.backend, &clock, call.local<memory::BufferSetState>(call.buffer_set.state)->clock, sizeof clock);
  return clock;
}

template <class E, class Call>
void expect_refusal(Rank& rank, Words words, Call&& call) {
  const std::uint64_t before = epoch_of(rank);
  words.push_back("rank " + std::to_string(rank.rank()));
  std::string text = "nothing was refused";
  try {
    call();
  } catch (const E& error) {
    text = error.what();
  } catch (const std::exception& error) {
    text = std::string("wrong class: ") + error.what();
  }
  for (const std::string& word : words)
    if (text.find(word) == std::string::npos) rank.log.add("`", word, "` missing in: ", text);
  if (epoch_of(rank) != before) rank.log.add("an epoch moved: ", text);
}

/// One bad call per entry, by rank 1 of 3, before each of its right calls.
void check_dispatch(const TestCase& test,
                    const std::vector<std::pair<Words, std::function<void(DispatchInput&)>>>& bad) {
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    for (const auto& [words, debug_fill] : bad) {
      if (rank.rank() == 1) {
        const Round round(test, answers, 1);
        DispatchInput input = round.input();
        debug_fill(input);
        expect_refusal<UsageError>(rank, words, [&] { (void)rank.exchange.dispatch(input); });
      }
      rank.run(answers);
    }
  });
  EXPECT_EQ(log.text(), "");
}

void* shifted(const void* p, int bytes) { return const_cast<char*>(static_cast<const char*>(p)) + bytes; }

TEST(Usage, Dispatch) {
  TestCase test = small_case(3);
  test.config.scale_bytes = 7;
  check_dispatch(
      test,
      {{{"dispatch", "num_tokens = 9", "0 to max_tokens_per_rank = 8"}, [](DispatchInput& in) { in.num_tokens = 9; }},
       {{"num_tokens = -1"}, [](DispatchInput& in) { in.num_tokens = -1; }},
       {{"tokens is null"}, [](DispatchInput& in) { in.tokens = nullptr; }},
       {{"topk_ids is null"}, [](DispatchInput& in) { in.topk_ids = nullptr; }},
       {{"scales is null"}, [](DispatchInput& in) { in.scales = nullptr; }},
       {{"tokens lies 8 bytes past a multiple of 16", "16-byte aligned"},
        [](DispatchInput& in) { in.tokens = shifted(in.tokens, 8); }},
       {{"topk_ids lies 2 bytes past a multiple of 4"},
        [](DispatchInput& in) { in.topk_ids = shifted(in.topk_ids, 2); }},
       {{"topk_ids lies 4 bytes past a multiple of 8"},
        [](DispatchInput& in) { in.topk_ids = shifted(in.topk_ids, 4), in.topk_ids_are_int64 = true; }},
       {{"topk_weights lies 1 bytes past a multiple of 4"},
        [](DispatchInput& in) { in.topk_weights = static_cast<float*>(shifted(in.topk_weights, 1)); }},
       {{"num_tokens_on_device lies 2 bytes"},
        [](DispatchInput& in) { in.num_tokens_on_device = static_cast<std::int32_t*>(shifted(in.topk_ids, 2)); }},
       {{"tokens is null"}, [](DispatchInput& in) {
          in.num_tokens_on_device = static_cast<const std::int32_t*>(in.topk_ids), in.tokens = nullptr;
        }}});
}

TEST(Usage, AWrongStreamIsRefused) {
  if (backend_of_tests() != BackendKind::cpu) GTEST_SKIP() << "a GPU's streams are tried in Pointers";
  const TestCase test = small_case(3);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    CallOptions wrong;
    wrong.stream = &round;
    const auto refused = [&](auto&& call) {
      try {
        call();
        log.add("a wrong stream was taken");
      } catch (const UsageError& error) {
        if (std::string(error.what()).find("CpuStream") == std::string::npos) log.add(error.what());
      }
    };
    refused([&] { (void)rank.exchange.dispatch(round.input(), wrong); });
    Received received = rank.exchange.dispatch(round.input());
    const Plan plan = received.retain_plan();
    const CombineInput from = round.run_experts(received);
    refused([&] { rank.exchange.combine(std::move(received), from, round.output(), wrong); });
    refused([&] { rank.exchange.combine(plan, from, round.output(), wrong); });
    rank.exchange.combine(std::move(received), from, round.output());
    round.check_output(log);
    refused([&] { (void)rank.exchange.dispatch(plan, round.payload(), wrong); });
    rank.run(answers);
  });
  EXPECT_EQ(log.text(), "");
}

/// Two ranks of one process on one GPU: on the default stream they could only wait for each other.
TEST(Usage, TheDefaultStreamOfASharedDevice) {
  TestCase test = small_case(2);
  test.config.fused = true;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    detail::ExchangeState& state = state_of(rank.exchange);
    Round round(test, answers, rank.rank());
    const Words words = {"ranks of this process share device", "default stream", "Pass a stream of the rank's own"};
    state.default_stream_is_shared = true;
    expect_refusal<UsageError>(rank, words, [&] { (void)rank.exchange.dispatch(round.input()); });
    state.default_stream_is_shared = false;
    Received received = rank.exchange.dispatch(round.input());
    (void)round.run_experts(received);
    state.default_stream_is_shared = true;
    expect_refusal<UsageError>(rank, words, [&] { rank.exchange.combine_fused(std::move(received), round.output()); });
    Stream stream;
    rank.exchange.combine_fused(std::move(received), round.output(), -1, stream.options());
    stream.synchronize();
    round.check_output(log);
    state.default_stream_is_shared = false;
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Usage, Combine) {
  TestCase test = small_case(3);
  test.config.combine_topk_weights = test.combine_topk_weights = true;
  const Answers answers = answers_of(test);
  using Spoil = std::function<void(CombineInput&, CombineOutput&)>;
  const std::vector<std::pair<Words, Spoil>> bad = {
      {{"combine", "input.rows is null"}, [](CombineInput& in, CombineOutput&) { in.rows = nullptr; }},
      {{"input.rows lies 4 bytes past a multiple of 16"},
       [](CombineInput& in, CombineOutput&) { in.rows = shifted(in.rows, 4); }},
      {{"output.rows is null"}, [](CombineInput&, CombineOutput& out) { out.rows = nullptr; }},
      {{"output.rows lies 1 bytes past a multiple of 16"},
       [](CombineInput&, CombineOutput& out) { out.rows = shifted(out.rows, 1); }},
      {{"output.topk_weights is null"}, [](CombineInput&, CombineOutput& out) { out.topk_weights = nullptr; }},
      {{"output.topk_weights lies 2 bytes"},
       [](CombineInput&, CombineOutput& out) { out.topk_weights = static_cast<float*>(shifted(out.topk_weights, 2)); }},
      {{"input.topk_weights lies 3 bytes"},
       [](CombineInput& in, CombineOutput& out) {
         in.topk_weights = static_cast<float*>(shifted(out.topk_weights, 3));
       }},
  };
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    for (const auto& [words, debug_fill] : bad) {
      Round round(test, answers, rank.rank());
      Received received = rank.exchange.dispatch(round.input());
      const CombineInput from = round.run_experts(received);
      CombineInput wrong_from = from;
      CombineOutput wrong_to = round.output();
      debug_fill(wrong_from, wrong_to);
      if (rank.rank() == 1)
        expect_refusal<UsageError>(rank, words,
                                   [&] { rank.exchange.combine(std::move(received), wrong_from, wrong_to); });
      rank.combine(std::move(received), from, round.output());  // the Received was not consumed
      round.check_output(log);
    }
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Usage, WeightsOfCombineNeedTheirMember) {
  const TestCase test = small_case(2);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    Received received = rank.exchange.dispatch(round.input());
    CombineInput from = round.run_experts(received);
    const Buffer weights(test.backend, 256);
    CombineOutput to = round.output();
    from.combine_topk_weights = true;
    to.topk_weights = weights.as<float>();
    expect_refusal<UsageError>(rank, {"combine_topk_weights", "config.combine_topk_weights"},
                               [&] { rank.exchange.combine(std::move(received), from, to); });
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Usage, StatesOfReceivedAndPlan) {
  TestCase test = small_case(3);
  test.config.max_in_flight = 2;
  test.config.max_kept_plans = 1;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Exchange other(rank.group, test.config);
    run_calls_at_once(other);
    Round round(test, answers, rank.rank()), second(test, answers, rank.rank());
    Received one = rank.exchange.dispatch(round.input());
    Received two = rank.exchange.dispatch(second.input());
    expect_refusal<StateError>(rank, {"dispatch", "2 Received are in flight", "config.max_in_flight"},
                               [&] { (void)rank.exchange.dispatch(round.input()); });
    std::optional<Plan> plan = one.retain_plan();
    expect_refusal<StateError>(rank, {"retain_plan", "kept already"}, [&] { (void)one.retain_plan(); });
    expect_refusal<StateError>(rank, {"retain_plan", "1 plans are kept", "max_kept_plans"},
                               [&] { (void)two.retain_plan(); });
    expect_refusal<StateError>(rank, {"dispatch", "in flight"},
                               [&] { (void)rank.exchange.dispatch(*plan, round.payload()); });
    const CombineInput from = round.run_experts(one);
    expect_refusal<StateError>(rank, {"combine", "belongs to another exchange"},
                               [&] { other.combine(std::move(one), from, round.output()); });
    expect_refusal<StateError>(rank, {"combine", "plan belongs to another exchange"},
                               [&] { other.combine(*plan, from, round.output()); });
    expect_refusal<StateError>(rank, {"dispatch", "plan belongs to another exchange"},
                               [&] { (void)other.dispatch(*plan, round.payload()); });
    expect_refusal<StateError>(rank, {"combine_fused", "config.fused"},
                               [&] { rank.exchange.combine_fused(std::move(one), round.output()); });
    rank.combine(std::move(one), from, round.output());
    round.check_output(log);
    expect_refusal<StateError>(rank, {"combine", "was combined before"},
                               [&] { rank.combine(std::move(one), from, round.output()); });
    DispatchInput wrong = round.payload();
    wrong.num_tokens = 3;
    expect_refusal<UsageError>(rank, {"num_tokens = 3", "the plan routes 8"},
                               [&] { (void)rank.exchange.dispatch(*plan, wrong); });
    Received replayed = rank.exchange.dispatch(*plan, round.payload());
    round.check(view_of(replayed), log);
    rank.combine(std::move(replayed), round.run_experts(replayed), round.output());
    plan.reset();
    (void)two.retain_plan();  // there is room again
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Usage, ConsumedObjectsSayWhatTheyWere) {
  const TestCase test = small_case(1);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, 0);
    Received received = rank.exchange.dispatch(round.input());
    std::optional<Plan> plan = received.retain_plan();
    rank.combine(std::move(received), round.run_experts(received), round.output());
    const auto says = [&](const char* what, auto&& call) {
      try {
        call();
        log.add(what, " of a consumed object did not throw");
      } catch (const StateError& error) {
        if (std::string(error.what()).find(what) == std::string::npos) log.add(what, " missing in: ", error.what());
      }
    };
    says("Received::tokens", [&] { (void)received.tokens(); });
    says("Received::experts", [&] { (void)received.experts(); });
    says("Received::counts", [&] { (void)received.counts(); });
    says("Received::expert_counts", [&] { (void)received.expert_counts(); });
    says("Received::combine_buffer", [&] { (void)received.combine_buffer(); });
    says("Received::combine_slots", [&] { (void)received.combine_slots(0); });
    says("Received::retain_plan", [&] { (void)received.retain_plan(); });
    const Plan moved = std::move(*plan);
    says("Plan::counts", [&] { (void)plan->counts(); });
    says("Plan::expert_counts", [&] { (void)plan->expert_counts(); });
    says("moved from", [&] { rank.exchange.combine(*plan, round.run_experts(Targets{}), round.output()); });
    says("moved from", [&] { (void)rank.exchange.dispatch(*plan, round.payload()); });
    Exchange taken = std::move(rank.exchange);
    says("moved from", [&] { (void)rank.exchange.dispatch(round.input()); });
    says("moved from", [&] { (void)rank.exchange.poll(); });
    says("moved from", [&] { (void)rank.exchange.memory(); });
    rank.exchange.close();  // nothing to close
    rank.exchange = std::move(taken);
    Group group = std::move(rank.group);
    says("moved from", [&] { (void)rank.group.rank(); });
    says("moved from", [&] { rank.group.abort("x"); });
    says("moved from", [&] { Exchange(rank.group, test.config); });
    rank.group = std::move(group);
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Usage, ViewsThatTheConfigDoesNotHave) {
  TestCase test = small_case(2);
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    const Received received = rank.exchange.dispatch(round.input());
    if (received.has_experts() || received.has_combine_buffer()) log.add("has what it has not");
    expect_refusal<StateError>(rank, {"Received::experts", "token_major", "tokens()"},
                               [&] { (void)received.experts(); });
    expect_refusal<StateError>(rank, {"combine_buffer", "config.zero_copy"}, [&] { (void)received.combine_buffer(); });
    expect_refusal<StateError>(rank, {"combine_slots", "config.fused"}, [&] { (void)received.combine_slots(0); });
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Usage, CombineBufferAsAViewOfAnyDtypeAndWidthThatFits) {
  TestCase test = small_case(2);
  test.config.zero_copy = true;
  test.config.max_in_flight = 2;
  const Answers answers = answers_of(test);  // rows of 256 bytes
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank()), other(test, answers, rank.rank());
    Received received = rank.exchange.dispatch(round.input()), second = rank.exchange.dispatch(other.input());
    const CombineBuffer own = received.combine_buffer();
    if (own.row_bytes != 256 || own.num_rows != 16) log.add("own view: ", own.num_rows, " rows of ", own.row_bytes);
    for (const auto& [dtype, hidden] :
         {std::pair{Dtype::fp8_e4m3, 256}, {Dtype::f32, 64}, {Dtype::fp4_e2m1, 512}, {Dtype::bf16, 8}}) {
      const CombineBuffer view = received.combine_buffer(dtype, hidden);
      if (view.data != own.data || view.row_bytes != row_bytes_of(dtype, hidden) || view.num_rows < 16)
        log.add("another view");
    }
    const auto refused = [&](Dtype dtype, int hidden, const char* word) {
      expect_refusal<UsageError>(rank, {"combine_buffer", word}, [&] { (void)received.combine_buffer(dtype, hidden); });
    };
    refused(Dtype::f32, 68, "272 bytes");
    refused(Dtype::bf16, 7, "multiple of 16");
    refused(Dtype::bf16, 0, "multiple of 16");
    refused(Dtype::bf16, -8, "multiple of 16");
    const CombineInput from = round.run_experts(second);  // the buffer of the other Received
    expect_refusal<UsageError>(rank, {"combine", "another Received"},
                               [&] { rank.exchange.combine(std::move(received), from, round.output()); });
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Usage, Fused) {
  TestCase test = small_case(3);
  test.config.fused = true;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    Received received = rank.exchange.dispatch(round.input());
    expect_refusal<UsageError>(rank, {"combine_slots", "rank = 3", "0 to 2"}, [&] { (void)received.combine_slots(3); });
    expect_refusal<UsageError>(rank, {"combine_slots", "rank = -1"}, [&] { (void)received.combine_slots(-1); });
    const auto refused = [&](Words words, CombineOutput out, int tokens) {
      expect_refusal<UsageError>(rank, words, [&] { rank.exchange.combine_fused(std::move(received), out, tokens); });
    };
    CombineOutput null = round.output(), crooked = round.output(), weights = round.output();
    null.rows = nullptr;
    crooked.rows = shifted(crooked.rows, 8);
    const Buffer some(test.backend, 256);
    weights.topk_weights = some.as<float>();
    refused({"combine_fused", "num_tokens = 9", "0 to 8"}, round.output(), 9);
    refused({"num_tokens = -2"}, round.output(), -2);
    refused({"output.rows is null"}, null, -1);
    refused({"output.rows lies 8 bytes"}, crooked, -1);
    refused({"output.topk_weights", "config.combine_topk_weights"}, weights, -1);
    (void)round.run_experts(received);
    rank.combine(std::move(received), {}, round.output());
    round.check_output(log);
    expect_refusal<StateError>(rank, {"combine_fused", "was combined before"},
                               [&] { rank.exchange.combine_fused(std::move(received), round.output()); });
  });
  EXPECT_EQ(log.text(), "");
}

/// A combine along a kept plan uses the combine slots that kernels may have written: combine_fused then says so.
/// Both need the combine slots of one place: the plan's combine is refused, the fused one goes on.
TEST(Usage, ACombineAlongAPlanBeforeTheFusedOne) {
  TestCase test = small_case(2);
  test.config.fused = true;
  TestCase staged = test;
  staged.config.fused = false;
  const Answers by_id = answers_of(test), by_rank = answers_of(staged);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, by_id, rank.rank()), other(staged, by_rank, rank.rank());
    Received received = rank.exchange.dispatch(round.input());
    const Plan plan = received.retain_plan();
    (void)round.run_experts(received);
    const CombineInput from = other.run_experts(Targets{});
    expect_refusal<StateError>(rank, {"combine", "kept plan", "handed out", "raise max_in_flight"},
                               [&] { rank.exchange.combine(plan, from, other.output()); });
    rank.combine(std::move(received), {}, round.output());
    round.check_output(log);
    rank.exchange.combine(plan, from, other.output());
    other.check_output(log);
  });
  EXPECT_EQ(log.text(), "");
}

/// The combine buffer of a Received may go home along a plan, but then its combine slots are no longer handed out.
TEST(Usage, FusedAfterACombineAlongAPlan) {
  TestCase test = small_case(2);
  test.config.fused = test.config.zero_copy = true;
  const Answers answers = answers_of(test);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank()), other(test, answers, rank.rank());
    Received received = rank.exchange.dispatch(round.input());
    const Plan plan = received.retain_plan();
    rank.exchange.combine(plan, {.rows = received.combine_buffer().data}, other.output());
    expect_refusal<StateError>(rank, {"combine_fused", "combine along a kept plan", "dispatch again"},
                               [&] { rank.exchange.combine_fused(std::move(received), round.output()); });
    { const Received dropped = std::move(received); }
    received = rank.exchange.dispatch(plan, round.payload());
    (void)round.run_experts(received);
    rank.combine(std::move(received), {}, round.output());
    round.check_output(log);
  });
  EXPECT_EQ(log.text(), "");
}

TEST(Usage, Deadline) {
  const TestCase test = small_case(1);
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    try {
      rank.group.set_deadline(std::chrono::milliseconds(-5));
      log.add("a negative deadline was taken");
    } catch (const UsageError& error) {
      if (std::string(error.what()).find("-5 ms") == std::string::npos) log.add(error.what());
    }
    rank.group.set_deadline(std::chrono::milliseconds::max());
    rank.run(answers_of(test));
  });
  EXPECT_EQ(log.text(), "");
  GroupOptions options;
  options.backend = BackendKind::cpu;
  options.deadline = std::chrono::milliseconds::max();  // as good as none
  EXPECT_NO_THROW({ const Group group = Group::join(ThreadTeam(1), 0, options); });
}

}  // namespace
}  // namespace crossdock::testing
