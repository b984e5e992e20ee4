// SPDX-License-Identifier: Apache-2.0
#include "op/environment.hpp"

#include <charconv>
#include <cstdlib>
#include <string>

#include "crossdock/error.hpp"
#include "op/text.hpp"

namespace crossdock::op {
namespace {

#define XD_ROW(name, standard, ...) {#name, standard},
constexpr struct { std::string_view name, standard; } kVariables[] = {XD_ENVIRONMENT(XD_ROW)};
#undef XD_ROW

/// Value of a variable of the list, or its default.
std::string value_of(std::string_view name) {
  const char* set = std::getenv(std::string(name).c_str());
  if (set && *set) return set;
  for (const auto& variable : kVariables)
    if (variable.name == name) return std::string(variable.standard);
  return {};
}

}  // namespace

std::chrono::milliseconds environment_deadline() {
  const std::string value = value_of("CROSSDOCK_DEADLINE_MS");
  std::int64_t ms = -1;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), ms);
  if (error != std::errc() || end != value.data() + value.size() || ms < 0)
    throw ConfigError(text("CROSSDOCK_DEADLINE_MS = `", value, "`; must be milliseconds, 0 for no limit"));
  return std::chrono::milliseconds(ms);
}

std::string environment_tuning_file() { return value_of("CROSSDOCK_TUNING_FILE"); }

BackendKind environment_backend() {
  const std::string value = value_of("CROSSDOCK_BACKEND");
  for (std::size_t i = 0; i < std::size(kBackendNames); ++i)
    if (kBackendNames[i] == value) return static_cast<BackendKind>(i);
  std::string names;
  for (const std::string_view name : kBackendNames) names += text(names.empty() ? "" : ", ", name);
  throw ConfigError(text("CROSSDOCK_BACKEND = `", value, "`; must be one of ", names));
}

}  // namespace crossdock::op
