// SPDX-License-Identifier: Apache-2.0
// Runs one problem on all ranks and judges every one of them.
#pragma once

#include <chrono>
#include <string>

#include "problem/problem.hpp"

namespace crossdock::tools {

struct CheckOptions {
  bool processes = false;  // ranks are processes, else threads
  BackendKind backend = BackendKind::cpu;
  std::vector<int> devices;  // of the ranks in turn; empty: all
  int rank = -1;             // only this rank, the others are other commands; -1: all
  std::string meeting;       // where they meet
  int rounds = 1;            // dispatch and combine, this often
  int dispatch_blocks = 0, combine_blocks = 0;
  std::chrono::milliseconds deadline{30000};
};

struct Verdict {
  bool right = false;
  std::string why;                 // what is wrong
  double run_seconds = 0;          // dispatch, experts and combine with set-up
  std::int64_t rows_received = 0;  // by all ranks, in one round
  std::int64_t rows_dropped = 0;
};

/// Never throws for what goes wrong in a rank: the verdict tells.
Verdict check_problem(const Problem& problem, const CheckOptions& options);

}  // namespace crossdock::tools
