// SPDX-License-Identifier: Apache-2.0
// How a verb of the command `crossdock` joins it: one static Verb in a file of its own. Nothing else names verbs.
#pragma once

#include <CLI/CLI.hpp>
#include <map>

#include "command/failures.hpp"

namespace crossdock::tools {

/// Adds a subcommand and gives it a callback. The callback prints its result on stdout and throws what went wrong.
using AddVerb = void (*)(CLI::App& app);

/// All verbs by their place in the help. Made on first use, for verbs register before main.
inline std::multimap<int, AddVerb>& all_verbs() {
  static std::multimap<int, AddVerb> verbs;
  return verbs;
}

/// `static const Verb verb{20, add_bench};` in bench.cpp is all that the verb `bench` needs to be known.
struct Verb {
  Verb(int place_in_help, AddVerb add) { all_verbs().emplace(place_in_help, add); }
};

}  // namespace crossdock::tools
