// SPDX-License-Identifier: Apache-2.0
// Compares what a rank holds with the oracle, bit for bit. An empty text means equal; else it names the first difference.
#pragma once

#include <string>

#include "machine/rank_memory.hpp"
#include "problem/problem.hpp"

namespace crossdock::tools {

/// Counts, metadata of all rows up to the capacity, and bytes of all rows, by token and by expert.
std::string wrong_dispatch(const Data& data, int rank, const Received& received, RankMemory& memory);

/// Bytes of the received rows alone, and of those by expert, if there are any.
std::string wrong_rows(const Data& data, int rank, const void* rows, const void* expert_rows, RankMemory& memory);

/// Results of combine, in memory of the host. `weights` null: not asked for.
std::string wrong_combine(const Data& data, int rank, const oracle::RankResult& expected, const void* rows,
                          const float* weights);

/// |results - exact sums of the expert outputs| / |exact sums|, Euclidean norms over some tokens of every rank.
double relative_error(const Data& data, const std::vector<oracle::RankResult>& results);

}  // namespace crossdock::tools
