// SPDX-License-Identifier: Apache-2.0
// The run that docs/journey.md follows: three ranks, six experts, one token watched on its way. Prints every number that
// the page shows, and fails if the token does not come home as 16.375.
#include <crossdock/crossdock.hpp>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace crossdock;

namespace {

constexpr int kRanks = 3, kExperts = 6, kTopk = 3, kMaxTokens = 4, kHidden = 8;
constexpr int kHome = 1, kToken = 2;  // the token that the page follows

// Ids and weights of every rank's tokens; rank r passes kNumTokens[r] of them.
constexpr int kNumTokens[kRanks] = {2, 3, 1};
constexpr std::int32_t kIds[kRanks][kMaxTokens][kTopk] = {
    {{0, 4, -1}, {5, 4, 2}}, {{2, 3, 3}, {1, 0, 5}, {4, 0, 5}}, {{5, 1, 3}}};
constexpr float kWeights[kTopk] = {0.5f, 0.25f, 0.25f};

std::uint16_t to_bf16(float value) {  // exact for the values of this run
  std::uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return static_cast<std::uint16_t>(bits >> 16);
}
float from_bf16(std::uint16_t code) {
  const std::uint32_t bits = std::uint32_t{code} << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

struct Report {
  std::string lines[kRanks];
  bool right = false;
  std::mutex mutex;
};

template <class... Args>
void say(std::string& lines, const char* format, Args... args) {
  char line[160];
  std::snprintf(line, sizeof line, format, args...);
  lines += line;
}

void run_rank(const ThreadTeam& team, int rank, Report& report) {
  std::string& lines = report.lines[rank];
  Group group = Group::join(team, rank, {.backend = BackendKind::cpu});
  Config config{.hidden = kHidden, .num_experts = kExperts, .top_k = kTopk, .max_tokens_per_rank = kMaxTokens};
  config.layout = Layout::contiguous;
  config.alignment = 8;
  Exchange exchange(group, config);

  std::vector<std::uint16_t> tokens(kMaxTokens * kHidden), results(kMaxTokens * kHidden);
  std::vector<float> weights;
  for (int t = 0; t < kMaxTokens; ++t) {
    for (int i = 0; i < kHidden; ++i) tokens[t * kHidden + i] = to_bf16(1.0078125f);
    weights.insert(weights.end(), kWeights, kWeights + kTopk);
  }
  Received received = exchange.dispatch({.tokens = tokens.data(),
                                         .topk_ids = kIds[rank],
                                         .topk_weights = weights.data(),
                                         .num_tokens = kNumTokens[rank]});

  const Counts& counts = *received.counts();
  const TokenRows by_token = received.tokens();
  const ExpertRows by_expert = received.experts();
  say(lines, "rank %d received %lld rows: %lld from rank 0, %lld from rank 1, %lld from rank 2\n", rank,
      static_cast<long long>(counts.num_rows), static_cast<long long>(counts.rows_per_source[0]),
      static_cast<long long>(counts.rows_per_source[1]), static_cast<long long>(counts.rows_per_source[2]));
  for (int row = 0; row < counts.num_rows; ++row) {
    const RowSource& from = by_token.sources[row];
    say(lines, "  row %d: token %d of rank %d, ids %2d %2d %2d, combine slot %d\n", row, from.token, from.rank,
        by_token.topk_ids[row * kTopk], by_token.topk_ids[row * kTopk + 1], by_token.topk_ids[row * kTopk + 2],
        from.combine_slot);
  }
  // Expert e multiplies by 2^e.
  auto* rows = static_cast<std::uint16_t*>(by_expert.rows);
  for (int x = 0; x < by_token.num_local_experts; ++x) {
    const int expert = by_token.first_expert + x, first = by_expert.offsets[x], count = received.expert_counts()[x];
    say(lines, "  expert %d: rows %d to %d\n", expert, first, first + count - 1);
    for (int i = first * kHidden; i < (first + count) * kHidden; ++i)
      rows[i] = to_bf16(from_bf16(rows[i]) * static_cast<float>(1 << expert));
    for (int row = first; row < first + count; ++row)
      if (by_expert.sources[row].rank == kHome && by_expert.sources[row].token == kToken)
        say(lines, "    row %d is the token: weight %g, expert output %.9g\n", row, by_expert.weights[row],
            from_bf16(rows[row * kHidden]));
  }
  exchange.combine(std::move(received), {.rows = rows}, {.rows = results.data()});

  if (rank != kHome || exchange.poll().code != StatusCode::ok) return;
  const float result = from_bf16(results[kToken * kHidden]);
  say(lines, "token %d of rank %d went out as %.9g and came home as %.9g\n", kToken, kHome, 1.0078125f, result);
  const std::lock_guard lock(report.mutex);
  report.right = result == 16.375f;
}

}  // namespace

int main() {
  ThreadTeam team(kRanks);
  Report report;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank)
    threads.emplace_back([&, rank] {
      try {
        run_rank(team, rank, report);
      } catch (const Error& error) {
        std::fprintf(stderr, "%s\n", error.what());
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& lines : report.lines) std::fputs(lines.c_str(), stdout);
  return report.right ? 0 : 1;
}
