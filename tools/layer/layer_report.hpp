// SPDX-License-Identifier: Apache-2.0
// What `crossdock run` says: for a person, and as JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "layer/layer_job.hpp"

namespace crossdock::tools {

/// Time and rate of one operation, over all ranks: from the first that began to the last that ended.
struct Rate {
  double median_s = 0, best_s = 0;
  std::int64_t bytes = 0;  ///< of all ranks
  double bytes_per_s() const { return median_s > 0 ? static_cast<double>(bytes) / median_s : 0; }
};

/// The result of a run, summed up.
struct LayerSummary {
  LayerSummary(const LayerJob& job, Shared& shared);

  const LayerJob& job;
  std::vector<std::vector<std::int64_t>> rows;  ///< [from][to]
  std::vector<std::int64_t> received;           ///< [rank]
  std::int64_t num_rows = 0, pairs = 0, bad_ids = 0;
  int hottest_expert = 0;
  std::int64_t hottest_rows = 0;
  std::int64_t row_bytes, wire_bytes;  ///< of one row with its scales, and of one combine row on the wire
  Rate dispatch, combine, copy;
  std::uint64_t memory_bytes = 0, digest = 0;
  std::int64_t num_mismatches = 0;
  int mismatch_rank = -1;
  Mismatch mismatch{};
  Distance distance{};
  std::optional<double> distance_limit;

  int experts_per_rank() const { return (job.options.config.num_experts + job.num_ranks() - 1) / job.num_ranks(); }
};

void print_text(const LayerSummary& summary);
nlohmann::ordered_json json_of(const LayerSummary& summary);

/// Why the check failed, naming rank, token, column and both values; empty if it did not.
std::string complaint_of(const LayerSummary& summary);

}  // namespace crossdock::tools
