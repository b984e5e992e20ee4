// SPDX-License-Identifier: Apache-2.0
// The environment variables of lists.h, read when a group forms and never in dispatch or combine.
#pragma once

#include <chrono>
#include <string>

#include "crossdock/types.hpp"

namespace crossdock::op {

/// CROSSDOCK_DEADLINE_MS. ConfigError if it is not a number.
std::chrono::milliseconds environment_deadline();

/// CROSSDOCK_TUNING_FILE, `none` if there is none.
std::string environment_tuning_file();

/// CROSSDOCK_BACKEND. ConfigError if it names no machine.
BackendKind environment_backend();

}  // namespace crossdock::op
