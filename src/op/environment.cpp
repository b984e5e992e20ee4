// SPDX-License-Identifier: Apache-2.0
#include "op/environment.hpp"

#include <charconv>
#include <cstdlib>
#include <limits>
#include <string>

#include "crossdock/error.hpp"
#include "crossdock/retired_names.h"
#include "op/text.hpp"

namespace crossdock::op {
namespace {

#define XD_ROW(name, standard, ...) {#name, standard},
constexpr struct { std::string_view name, standard; } kVariables[] = {XD_ENVIRONMENT(XD_ROW)};
#undef XD_ROW

/// ConfigError if a variable is set by its old name, because an ignored setting would go unnoticed.
void refuse_retired() {
#define XD_ROW(old_name, new_name)                                 \
  if (const char* value = std::getenv(#old_name); value && *value) \
    throw ConfigError(text(#old_name " = `", value, "`; this variable is called " #new_name " now; set that"));
  XD_RETIRED_ENVIRONMENT(XD_ROW)
#undef XD_ROW
}

/// Value of a variable of XD_ENVIRONMENT, or its default if it is not set or empty.
std::string value_of(std::string_view name) {
  refuse_retired();
  const char* set = std::getenv(std::string(name).c_str());
  if (set && *set) return set;
  for (const auto& variable : kVariables)
    if (variable.name == name) return std::string(variable.standard);
  return {};
}

/// The number in a variable. ConfigError with `rule` unless it is 0 to `most`.
std::int64_t number_of(std::string_view name, std::int64_t most, const std::string& rule) {
  const std::string value = value_of(name);
  std::int64_t number = -1;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < 0 || number > most)
    throw ConfigError(text(name, " = `", value, "`; must be ", rule));
  return number;
}

}  // namespace

std::chrono::milliseconds environment_deadline() {
  return std::chrono::milliseconds(
      number_of("CROSSDOCK_DEADLINE_MS", std::numeric_limits<std::int64_t>::max(), "milliseconds, 0 for no limit"));
}

int environment_packet_tokens() {
  return static_cast<int>(number_of("CROSSDOCK_PACKET_TOKENS", ll_packet::kMaxTokens,
                                    text("a number of tokens, 0 to ", ll_packet::kMaxTokens)));
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
