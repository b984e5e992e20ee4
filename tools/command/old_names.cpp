// SPDX-License-Identifier: Apache-2.0
#include "command/old_names.hpp"

#include "crossdock/retired_names.h"

namespace crossdock::tools {

std::string hint_of_renamed(std::string_view key) {
#define XD_NAME(old_name, new_name) \
  if (key == #old_name) return " (`" #old_name "` is called `" #new_name "` now)";
  XD_RETIRED_KEYS(XD_NAME)
  XD_RETIRED_MEMBERS(XD_NAME)
#undef XD_NAME
  return {};
}

}  // namespace crossdock::tools
