// SPDX-License-Identifier: Apache-2.0
// Memory and streams of the wrong place, on GPUs: refused with a reason before anything is enqueued, and no error of the
// driver stays behind. Nothing of it can be told on the CPU, where all memory is the host's.
#include <gtest/gtest.h>

#include <optional>

#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

const BackendKind kBackend = backend_of_tests();

/// Memory of the device after `rank`'s, and a stream there.
struct Elsewhere {
  explicit Elsewhere(int rank) {
    use_device(kBackend, rank + 1);
    memory = Buffer(kBackend, 1 << 16);
    stream.emplace();
    use_device(kBackend, rank);
  }
  Buffer memory;
  std::optional<Stream> stream;
};

/// Runs `call`, which must be refused with every word; the driver must be as it was.
void expect_refusal(Rank& rank, const std::vector<std::string>& words, const std::function<void()>& call) {
  std::string text = "nothing was refused";
  try {
    call();
  } catch (const UsageError& error) {
    text = error.what();
  } catch (const std::exception& error) {
    text = std::string("wrong class: ") + error.what();
  }
  for (const std::string& word : words)
    if (text.find(word) == std::string::npos) rank.log.add("`", word, "` missing in: ", text);
  if (text.find("rank " + std::to_string(rank.rank())) == std::string::npos && text.find("stream") == std::string::npos)
    rank.log.add("no rank in: ", text);
  if (const std::string left = last_error(kBackend); !left.empty()) rank.log.add("left behind: ", left);
}

struct Pointers : ::testing::Test {
  void SetUp() override {
    ASSERT_NE(kBackend, BackendKind::cpu) << "needs GPUs: CROSSDOCK_BACKEND names them";
    ASSERT_NE(device_of(kBackend, 0), device_of(kBackend, 1)) << "needs two GPUs";
  }
  TestCase test = [] {
    TestCase c = small_case(2);
    c.config.scale_bytes = 16;
    c.config.combine_topk_weights = c.combine_topk_weights = true;
    return c;
  }();
  Answers answers = answers_of(test);

  /// One bad dispatch by rank 1 before each right round of both.
  void try_dispatch(const std::vector<std::string>& words, const std::function<void(DispatchInput&, void*)>& debug_fill,
                    bool elsewhere) {
    Log log;
    run_ranks(test, log, [&](Rank& rank) {
      const Elsewhere other(rank.rank());
      std::vector<std::byte> host(1 << 16);
      if (rank.rank() == 1) {
        const Round round(test, answers, 1);
        DispatchInput input = round.input();
        const auto at = reinterpret_cast<std::uintptr_t>(host.data()) % 16;
        debug_fill(input, elsewhere ? other.memory.data() : host.data() + (16 - at));
        expect_refusal(rank, words, [&] { (void)rank.exchange.dispatch(input); });
      }
      rank.run(answers);
    });
    EXPECT_EQ(log.text(), "");
  }
};

TEST_F(Pointers, OfTheHostInDispatch) {
  const auto words = [](const char* name) {
    return std::vector<std::string>{"dispatch", name, "is a host pointer", "device"};
  };
  try_dispatch(
      words("tokens"), [](DispatchInput& in, void* p) { in.tokens = p; }, false);
  try_dispatch(
      words("topk_ids"), [](DispatchInput& in, void* p) { in.topk_ids = p; }, false);
  try_dispatch(
      words("topk_weights"), [](DispatchInput& in, void* p) { in.topk_weights = static_cast<float*>(p); }, false);
  try_dispatch(
      words("scales"), [](DispatchInput& in, void* p) { in.scales = p; }, false);
  try_dispatch(
      words("num_tokens_on_device"),
      [](DispatchInput& in, void* p) { in.num_tokens_on_device = static_cast<std::int32_t*>(p); }, false);
}

TEST_F(Pointers, OfAnotherDeviceInDispatch) {
  const auto words = [](const char* name) {
    return std::vector<std::string>{"dispatch", name, "lies on device", "pass memory of device"};
  };
  try_dispatch(
      words("tokens"), [](DispatchInput& in, void* p) { in.tokens = p; }, true);
  try_dispatch(
      words("topk_ids"), [](DispatchInput& in, void* p) { in.topk_ids = p; }, true);
  try_dispatch(
      words("topk_weights"), [](DispatchInput& in, void* p) { in.topk_weights = static_cast<float*>(p); }, true);
  try_dispatch(
      words("scales"), [](DispatchInput& in, void* p) { in.scales = p; }, true);
  try_dispatch(
      words("num_tokens_on_device"),
      [](DispatchInput& in, void* p) { in.num_tokens_on_device = static_cast<std::int32_t*>(p); }, true);
}

/// The same pointer, so many bytes further on.
template <class T>
T* past(T* pointer, int bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(pointer) + static_cast<std::uintptr_t>(bytes));
}

TEST_F(Pointers, ThatAreMisalignedInDispatch) {
  const auto words = [](const char* text) { return std::vector<std::string>{"dispatch", text}; };
  try_dispatch(
      words("tokens lies 8 bytes past a multiple of 16"),
      [](DispatchInput& in, void*) { in.tokens = static_cast<const std::byte*>(in.tokens) + 8; }, true);
  try_dispatch(
      words("topk_ids lies 2 bytes past a multiple of 4"),
      [](DispatchInput& in, void*) { in.topk_ids = static_cast<const std::byte*>(in.topk_ids) + 2; }, true);
  try_dispatch(
      words("topk_ids lies 4 bytes past a multiple of 8"),
      [](DispatchInput& in, void*) {
        in.topk_ids_are_int64 = true;
        in.topk_ids = static_cast<const std::byte*>(in.topk_ids) + 4;
      },
      true);
  try_dispatch(
      words("topk_weights lies 1 bytes past a multiple of 4"),
      [](DispatchInput& in, void*) { in.topk_weights = past(in.topk_weights, 1); }, true);
  try_dispatch(
      words("num_tokens_on_device lies 3 bytes past a multiple of 4"),
      [](DispatchInput& in, void*) {
        in.num_tokens_on_device = past(reinterpret_cast<const std::int32_t*>(in.topk_ids), 3);
      },
      true);
}

/// Scales are bytes: an odd address is as good as any.
TEST_F(Pointers, OfScalesMayLieAnywhere) {
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    const auto& scales = answers.inputs[rank.rank()].scales;
    const Buffer odd(kBackend, scales.size() + 1);
    copy_in(kBackend, odd.as<std::byte>() + 1, scales.data(), scales.size());
    const Round round(test, answers, rank.rank());
    DispatchInput input = round.input();
    input.scales = odd.as<std::byte>() + 1;
    const Received received = rank.exchange.dispatch(input);
    synchronize(kBackend, nullptr);
    round.check(view_of(received), log);
  });
  EXPECT_EQ(log.text(), "");
}

TEST_F(Pointers, InCombine) {
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    const Elsewhere other(rank.rank());
    alignas(16) static std::byte host[1 << 16];
    Round round(test, answers, rank.rank());
    Received received = rank.exchange.dispatch(round.input());
    const CombineInput from = round.run_experts(received);
    const CombineOutput to = round.output();
    const auto refused = [&](std::vector<std::string> words, const CombineInput& in, const CombineOutput& out) {
      words.push_back("combine");
      expect_refusal(rank, words, [&] { rank.exchange.combine(std::move(received), in, out); });
    };
    for (const auto& [memory, word] :
         {std::pair<void*, const char*>{host, "is a host pointer"}, {other.memory.data(), "lies on device"}}) {
      CombineInput in = from;
      CombineOutput out = to;
      in.rows = memory;
      refused({"input.rows", word}, in, to);
      out.rows = memory;
      refused({"output.rows", word}, from, out);
      out = to;
      out.topk_weights = static_cast<float*>(memory);
      refused({"output.topk_weights", word}, from, out);
      in = from;
      in.topk_weights = static_cast<float*>(memory);
      refused({"input.topk_weights", word}, in, to);
    }
    rank.combine(std::move(received), from, to);  // nothing was lost
    round.check_output(log);
  });
  EXPECT_EQ(log.text(), "");
}

TEST_F(Pointers, ThatAreMisalignedInCombine) {
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Round round(test, answers, rank.rank());
    Received received = rank.exchange.dispatch(round.input());
    const CombineInput from = round.run_experts(received);
    const CombineOutput to = round.output();
    const auto refused = [&](const char* words, const CombineInput& in, const CombineOutput& out) {
      expect_refusal(rank, {"combine", words}, [&] { rank.exchange.combine(std::move(received), in, out); });
    };
    CombineInput in = from;
    in.rows = past(from.rows, 8);
    refused("input.rows lies 8 bytes past a multiple of 16", in, to);
    in = from;
    in.topk_weights = past(to.topk_weights, 2);
    refused("input.topk_weights lies 2 bytes past a multiple of 4", in, to);
    CombineOutput out = to;
    out.rows = past(to.rows, 4);
    refused("output.rows lies 4 bytes past a multiple of 16", from, out);
    out = to;
    out.topk_weights = past(to.topk_weights, 1);
    refused("output.topk_weights lies 1 bytes past a multiple of 4", from, out);
    rank.combine(std::move(received), from, to);
    round.check_output(log);
  });
  EXPECT_EQ(log.text(), "");
}

TEST_F(Pointers, AStreamOfAnotherDevice) {
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    Elsewhere other(rank.rank());
    CallOptions wrong;
    wrong.stream = other.stream->handle();
    Round round(test, answers, rank.rank());
    const std::vector<std::string> words = {"stream belongs to device", "the group is on device"};
    expect_refusal(rank, words, [&] { (void)rank.exchange.dispatch(round.input(), wrong); });
    Received received = rank.exchange.dispatch(round.input());
    const CombineInput from = round.run_experts(received);
    expect_refusal(rank, words, [&] { rank.exchange.combine(std::move(received), from, round.output(), wrong); });
    rank.combine(std::move(received), from, round.output());
    round.check_output(log);
  });
  EXPECT_EQ(log.text(), "");
}

/// The calling thread's device stays what it was, whatever device the group is on.
TEST_F(Pointers, TheCurrentDeviceIsLeftAlone) {
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    use_device(kBackend, rank.rank() + 1);
    const Exchange another(rank.group, test.config);
    const int device = current_device(kBackend);
    if (device != device_of(kBackend, rank.rank() + 1)) log.add("now on device ", device);
    use_device(kBackend, rank.rank());
    rank.run(answers);
  });
  EXPECT_EQ(log.text(), "");
}

}  // namespace
}  // namespace crossdock::testing
