// SPDX-License-Identifier: Apache-2.0
// The floating-point mode of a thread.
#pragma once

#include <cfenv>

namespace crossdock::platform::cpu {

/// While it lives, the thread rounds to nearest and keeps subnormals, whatever its caller has set; then the caller's mode is
/// back. Results would else depend on the thread that runs a call.
class DefaultFloatMode {
 public:
  DefaultFloatMode() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatMode() { std::fesetenv(&before_); }
  DefaultFloatMode(const DefaultFloatMode&) = delete;
  DefaultFloatMode& operator=(const DefaultFloatMode&) = delete;

 private:
  std::fenv_t before_;
};

}  // namespace crossdock::platform::cpu
