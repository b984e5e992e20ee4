// SPDX-License-Identifier: Apache-2.0
// One exchange to run and to judge: its shape, the data of all ranks as formulas, and the oracle's answers.
// Rows are windows into a table of codes, chosen by whose row it is: quick to make again, and a misplaced row shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "crossdock/exchange.hpp"
#include "machine/rank_memory.hpp"
#include "oracle/answer.hpp"
#include "oracle/inputs.hpp"
#include "problem/trace.hpp"

namespace crossdock::tools {

struct Problem {
  oracle::Case shape;
  Path path = Path::staged;
  oracle::Routing routing = oracle::Routing::random;
  oracle::Fill fill = oracle::Fill::moderate;
  std::shared_ptr<const Trace>
      trace;  // if there is one, ids and weights are its first, and `routing` counts for nothing
  std::uint64_t seed = 42;
  std::vector<int> tokens;     // T of each rank; empty: max_tokens_per_rank
  bool second_result = false;  // combine sums rows of weights too
  bool zero_padding = false;   // contiguous
  int trace_events = 0;        // time stamps that the exchange keeps
};

/// The problem of the flags that verbs share.
Problem problem_of(const Config& config, int num_ranks);

/// Ranks, experts, top-k and T of a recorded routing, of T up to `max_tokens_per_rank` each.
void follow_trace(Problem& problem, std::shared_ptr<const Trace> trace, int max_tokens_per_rank);

/// The name of its routing: of XD_ORACLE_ROUTINGS, or `trace`.
std::string_view routing_name(const Problem& problem);

/// Whether some experts get more than others by design, or may: a trace says nothing of that.
bool favours_experts(const Problem& problem);

/// The library's configuration of it.
Config config_of(const Problem& problem);
/// Whether its exchange has packets: CROSSDOCK_PACKET_TOKENS.
bool uses_ll_packets(const Problem& problem);

/// Rows that are windows of `hidden` codes into one table.
class RowTable {
 public:
  RowTable(Dtype dtype, oracle::Fill fill, std::uint64_t seed, std::int64_t hidden);
  /// Row number `name`, any word.
  const std::byte* row(std::uint64_t name) const;
  std::int64_t row_bytes() const { return row_bytes_; }

 private:
  std::int64_t row_bytes_, step_bytes_;
  std::vector<std::uint8_t> codes_;
};

/// Everything that a run of a Problem reads, and what its dispatch must give.
struct Data {
  explicit Data(const Problem& problem);

  /// The row that rank `owner` computes for a received row; `expert` -1: the one output of a token-major row.
  const std::byte* output_row(int owner, const RowSource& source, int expert) const;
  /// The partial row of id j of a token, for Path::fused.
  const std::byte* combine_slot(int home, int token, int j) const;

  Problem problem;
  RowTable outputs;
  std::vector<oracle::RankInput> inputs;
  std::vector<std::vector<std::int32_t>> narrow_ids;  // empty for ids that need 64 bits
  std::vector<oracle::RankAnswer> answers;            // without `rows`, see oracle::received_row
};

/// What rank `rank` passes to dispatch, where the exchange can read it.
DispatchInput input_of(const Data& data, int rank, RankMemory& memory);
/// Expert outputs of rank `rank`, in the layout of the problem, by the oracle's answer.
void write_outputs(const Data& data, int rank, std::byte* to);
/// The same to where the exchange reads them.
void put_outputs(const Data& data, int rank, std::byte* to, Machine& machine);
/// Bytes that write_outputs may touch.
std::int64_t output_bytes(const Data& data, int rank);
/// What the caller's fused kernel does on rank `rank`: partial rows to the combine slots of their homes.
void write_landings(const Data& data, int rank, const Received& received, Machine& machine);

/// What combine must give every rank. Makes the outputs again; takes a while, uses all processors.
std::vector<oracle::RankResult> expected_results(const Data& data);

/// Rows received by all ranks together.
std::int64_t rows_received(const Data& data);

}  // namespace crossdock::tools
