// SPDX-License-Identifier: Apache-2.0
#include "command/verbs.hpp"

#include <map>

namespace crossdock::tools {
namespace {

std::multimap<int, AddVerb>& registry() {  // made on first use: verbs register before main
  static std::multimap<int, AddVerb> verbs;
  return verbs;
}

}  // namespace

Verb::Verb(int place_in_help, AddVerb add) { registry().emplace(place_in_help, add); }

std::vector<AddVerb> all_verbs() {
  std::vector<AddVerb> verbs;
  for (const auto& [place, add] : registry()) verbs.push_back(add);
  return verbs;
}

}  // namespace crossdock::tools
