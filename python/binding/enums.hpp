// SPDX-License-Identifier: Apache-2.0
// Enumerations are strings in Python: the names of lists.h.
#pragma once

#include <nanobind/nanobind.h>

#include <iterator>
#include <string>
#include <string_view>

#include "crossdock/error.hpp"

namespace crossdock::python {

/// The member of an enumeration called `name`; UsageError with all names otherwise.
template <class Enum, std::size_t kCount>
Enum enum_of(const std::string_view (&names)[kCount], std::string_view name, const char* what) {
  std::string all;
  for (std::size_t i = 0; i < kCount; ++i) {
    if (names[i] == name) return static_cast<Enum>(i);
    all.append(i ? ", " : "").append(names[i]);
  }
  throw UsageError(std::string(what) + " = '" + std::string(name) + "'; there are: " + all);
}

template <std::size_t kCount>
nanobind::tuple tuple_of(const std::string_view (&names)[kCount]) {
  nanobind::list all;
  for (const std::string_view name : names) all.append(nanobind::str(name.data(), name.size()));
  return nanobind::tuple(all);
}

}  // namespace crossdock::python
