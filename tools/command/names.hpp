// SPDX-License-Identifier: Apache-2.0
// Names as files and flags have them: of enumerations, and of what was called otherwise before 0.1.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "crossdock/retired_names.h"

namespace crossdock::tools {

/// The value of an enumeration whose names, in their order, are `names`.
template <class Enum, std::size_t kCount>
std::optional<Enum> named(const std::string_view (&names)[kCount], std::string_view name) {
  for (std::size_t i = 0; i < kCount; ++i)
    if (names[i] == name) return static_cast<Enum>(i);
  return std::nullopt;
}

/// " (`old` is called `new` now)" for a key of JSON lines or a member of a config that was renamed, else "". Users keep
/// baselines and cases with such keys.
inline std::string hint_of_renamed(std::string_view key) {
#define XD_NAME(old_name, new_name) \
  if (key == #old_name) return " (`" #old_name "` is called `" #new_name "` now)";
  XD_RETIRED_KEYS(XD_NAME)
  XD_RETIRED_MEMBERS(XD_NAME)
#undef XD_NAME
  return {};
}

}  // namespace crossdock::tools
