// SPDX-License-Identifier: Apache-2.0
// Builds texts of errors from values.
#pragma once

#include <sstream>
#include <string>
#include <type_traits>

#include "crossdock/types.hpp"

namespace crossdock::op {

/// Concatenates all parts, formatted by operator<<.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// A member of Config as text: enumerators by name.
template <class T>
std::string show(const T& value) {
  if constexpr (std::is_enum_v<T>)
    return std::string(name_of(value));
  else if constexpr (std::is_same_v<T, bool>)
    return value ? "true" : "false";
  else
    return std::to_string(value);
}

}  // namespace crossdock::op
