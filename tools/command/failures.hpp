// SPDX-License-Identifier: Apache-2.0
// How a verb ends that does not end well. The text of an error is made as fmt::format makes one.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

namespace crossdock::tools {

struct Failure : std::runtime_error {
  template <class... Values>
  explicit Failure(fmt::format_string<Values...> text, Values&&... values)
      : std::runtime_error(fmt::format(text, std::forward<Values>(values)...)) {}
};

/// What was asked cannot be done as asked: one line on stderr, exit code 2.
struct BadInput : Failure {
  using Failure::Failure;
};

/// The job ran, and what it shows is wrong: one line on stderr, exit code 1. Library errors other than `usage` and
/// `config`, which count as bad input, end the same way.
struct Failed : Failure {
  using Failure::Failure;
};

}  // namespace crossdock::tools
