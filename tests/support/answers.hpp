// SPDX-License-Identifier: Apache-2.0
// What all ranks pass and what all ranks must get, by the oracle; and the comparison of it with what one rank got.
#pragma once

#include <vector>

#include "crossdock/exchange.hpp"
#include "support/log.hpp"
#include "support/test_case.hpp"

namespace crossdock::testing {

struct Answers {
  oracle::Case shape;
  std::vector<oracle::RankInput> inputs;
  std::vector<std::vector<std::int32_t>> narrow_ids;  ///< by rank: the ids as int32
  std::vector<oracle::RankAnswer> received;
  std::vector<std::vector<std::uint8_t>> outputs;  ///< by rank: expert outputs; fused: combine slots of that home
  std::vector<std::vector<float>> weights;         ///< by rank: the caller's rows for the second result, or empty
  std::vector<oracle::RankResult> results;
};

/// `payload` other than 0: the same routing and weights, but other rows, scales and outputs.
Answers answers_of(const TestCase& test, std::uint64_t payload = 0);
/// For inputs made otherwise; outputs by formula.
Answers answers_to(const TestCase& test, std::vector<oracle::RankInput> inputs, std::uint64_t payload = 0);

/// What a dispatch delivered, as pointers that stay valid when combine has consumed the Received.
struct View {
  TokenRows tokens{};
  ExpertRows experts{};
  const Counts* counts = nullptr;
  const std::int32_t* expert_counts = nullptr;
};
View view_of(const Received& received);

/// Everything that a dispatch gives `rank`, bit for bit. All work on its stream must be done.
void check_received(const TestCase& test, const Answers& right, int rank, const View& got, Log& log);

/// What combine gives `rank`, bit for bit. `weights` null: the second result was not asked for.
void check_result(const TestCase& test, const Answers& right, int rank, const void* rows, const float* weights,
                  Log& log);

/// Whether what was allocated is what memory_of() said, to the byte, and its lines add up.
void check_bill(const MemoryUsage& allocated, const Config& config, int num_ranks, BackendKind backend, Log& log);

}  // namespace crossdock::testing
