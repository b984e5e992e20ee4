// SPDX-License-Identifier: Apache-2.0
// The error for failed system calls, with one form of text.
#pragma once

#include <string>
#include <system_error>

#include "crossdock/error.hpp"

namespace crossdock::platform::system {

/// Throws SystemError "<what> failed: <reason> (errno <n>)[; <advice>]".
[[noreturn]] inline void throw_system_error(const std::string& what, int error, const std::string& advice = {}) {
  throw SystemError(what + " failed: " + std::generic_category().message(error) + " (errno " + std::to_string(error) +
                    ")" + (advice.empty() ? "" : "; " + advice));
}

}  // namespace crossdock::platform::system
