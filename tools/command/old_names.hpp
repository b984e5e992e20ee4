// SPDX-License-Identifier: Apache-2.0
// Keys of before 0.1 in files that users keep: baselines, cases.
#pragma once

#include <string>
#include <string_view>

namespace crossdock::tools {

/// " (`old` is called `new` now)" for a key of JSON lines or a member of a config that was renamed, else "".
std::string hint_of_renamed(std::string_view key);

}  // namespace crossdock::tools
