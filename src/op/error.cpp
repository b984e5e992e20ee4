// SPDX-License-Identifier: Apache-2.0
#include "crossdock/error.hpp"

namespace crossdock {

namespace {

template <StatusCode kCode>
[[noreturn]] void raise_as(const std::string& text) {
  if constexpr (kCode == StatusCode::ok) {
    throw Error(kCode, text);  // not a failure, so no class of its own
  } else {
    throw StatusError<kCode>(text);
  }
}

}  // namespace

void raise(StatusCode code, const std::string& text) {
  switch (code) {
#define XD_RAISE(name, ...) \
  case StatusCode::name:    \
    raise_as<StatusCode::name>(text);
    XD_STATUSES(XD_RAISE)
#undef XD_RAISE
  }
  throw Error(code, text);
}

}  // namespace crossdock
