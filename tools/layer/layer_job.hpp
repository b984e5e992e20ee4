// SPDX-License-Identifier: Apache-2.0
// The job of `crossdock run`: what was asked, what all ranks share, and what each of them reports.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "command/text_file.hpp"
#include "crossdock/config.hpp"
#include "crossdock/group.hpp"
#include "layer/dense.hpp"
#include "layer/model.hpp"
#include "layer/router.hpp"
#include "machine/times.hpp"
#include "problem/trace.hpp"
#include "ranks/ranks.hpp"
#include "ranks/shared.hpp"

namespace crossdock::tools {

/// As the flags say; prepare() fills in what follows from text and trace.
struct LayerOptions {
  Config config;
  int num_ranks = 4;
  int inter = 64;
  int tokens = 0;  ///< per rank; 0: the text's length decides
  std::uint64_t seed = 1;
  int repeat = 5;
  RouterShape router;
  BackendKind backend = BackendKind::cpu;
  std::vector<int> devices;  ///< of the ranks in turn; empty: all
  std::string text, record, trace;
  bool binary = false, processes = false, json = false, progress = false;
  std::int64_t deadline_ms = -1;                                         ///< -1: CROSSDOCK_DEADLINE_MS
  bool ranks_given = false, experts_given = false, top_k_given = false;  ///< must then agree with the trace
};

/// Everything that is settled before the ranks start.
struct LayerJob {
  LayerOptions options;
  Text text;
  std::optional<Trace> trace;  ///< the routing to replay
  std::vector<int> tokens;     ///< T of each rank
  ModelShape model;

  int num_ranks() const { return options.num_ranks; }
  std::int64_t first_token_of(int rank) const;
  std::int64_t num_tokens() const { return first_token_of(num_ranks()); }
  unsigned char byte_at(std::int64_t position) const {
    return static_cast<unsigned char>(text.bytes[static_cast<std::size_t>(position) % text.bytes.size()]);
  }
};

/// Checks the options and settles the rest. Throws BadInput.
LayerJob prepare(LayerOptions options);

enum class Timed : int { dispatch, combine, copy, kCount };

/// What one rank found. Plain, because it lies in shared memory.
struct RankReport {
  char failure[1024];  ///< why this rank ended, if it did not stop because of another
  bool bad_input;      ///< the failure is one of what was asked
  std::int64_t rows_from[kMaxRanks];
  std::int64_t num_rows, bad_ids;
  std::uint64_t memory_bytes;  ///< taken by the exchange
  std::int64_t copied_bytes;   ///< by one measured memcpy
  std::int64_t num_mismatches;
  Mismatch first_mismatch;
  Distance distance;     ///< from the f64 layer
  std::uint64_t digest;  ///< of the result's bytes
};

/// What ranks share while they run.
struct Shared {
  explicit Shared(const LayerJob& job);
  std::span<Span> of_ranks(Timed what, int iteration);

  SharedArray<RankBarrier> barrier;
  SharedArray<RankReport> reports;
  SharedArray<std::int32_t> ids;          ///< [tokens of all ranks][k]
  SharedArray<float> weights;             ///< [tokens of all ranks][k]
  SharedArray<std::int32_t> expert_rows;  ///< [E] (token, expert) pairs, each written by the rank that owns the expert
  SharedArray<Span> times;                ///< of each call that is timed, on every rank
  int num_ranks, repeat;
};

/// The whole journey of one rank. Returns whether it went well; if not, the report says why. Rank 0 says on stderr where it
/// is, if LayerOptions::progress asks for that.
bool run_rank(const LayerJob& job, const Model& model, Shared& shared, const Meeting& meeting, int rank);

}  // namespace crossdock::tools
