// SPDX-License-Identifier: Apache-2.0
// Case files: JSON lists with the keys of FlyDSL's tests of dispatch and combine, and a few of our own: docs/cases.md.
// An unknown key, type or routing is an error that names it and the case.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "problem/problem.hpp"

namespace crossdock::tools {

/// What the command line does to every case of a file.
struct CaseOptions {
  int scale_hidden = 1;     // hidden sizes are divided by it
  int most_tokens = 0;      // max_tokens_per_rank is cut to it; 0: as given
  int num_ranks = 0;        // instead of world_size; budgets stay the same share of all tokens. 0: as given
  std::uint64_t seed = 42;  // draws _random_fields
};

struct CheckCase {
  std::string name;
  Problem problem;
  int dispatch_blocks = 0, combine_blocks = 0;  // most thread blocks; 0: the library's choice
  bool skip_profile = false, skip_ci = false;
  std::string known_failure;               // why it is known to fail
  std::vector<std::string> requires_arch;  // read and reported, never a reason to skip
  std::vector<std::string> drawn;          // "field = value" of _random_fields
};

/// Throws BadInput.
std::vector<CheckCase> read_cases(const std::string& file, const CaseOptions& options);

}  // namespace crossdock::tools
