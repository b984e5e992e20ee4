// SPDX-License-Identifier: Apache-2.0
// How a verb ends that does not end well.
#pragma once

#include <stdexcept>

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

}  // namespace crossdock::tools
