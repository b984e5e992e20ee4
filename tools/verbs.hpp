// SPDX-License-Identifier: Apache-2.0
// How a verb of the command `crossdock` joins it: one static Verb in a file of its own. Nothing else names verbs.
#pragma once

#include <CLI/CLI.hpp>
#include <stdexcept>
#include <vector>

namespace crossdock::tools {

/// What was asked cannot be done as asked: one line on stderr, exit code 2.
struct BadInput : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The job ran, and what it shows is wrong: one line on stderr, exit code 1. Library errors other than `usage` and
/// `config`, which count as bad input, end the same way.
struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Adds a subcommand and gives it a callback. The callback prints its result on stdout and throws what went wrong.
using AddVerb = void (*)(CLI::App& app);

/// `static const Verb verb{20, add_bench};` in bench.cpp is all that the verb `bench` needs to be known.
class Verb {
 public:
  Verb(int place_in_help, AddVerb add);
};

/// All verbs, by their place in the help.
std::vector<AddVerb> all_verbs();

}  // namespace crossdock::tools
