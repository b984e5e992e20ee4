// SPDX-License-Identifier: Apache-2.0
#include "crossdock/error.hpp"

namespace crossdock {

void raise(StatusCode code, const std::string& text) {
  switch (code) {
    case StatusCode::ok:
      break;
#define XD_RAISE(name, ...) \
  case StatusCode::name:    \
    throw StatusError<StatusCode::name>(text);
      XD_RAISE(usage)
      XD_RAISE(config)
      XD_RAISE(state)
      XD_RAISE(capacity)
      XD_RAISE(topology)
      XD_RAISE(peer_lost)
      XD_RAISE(aborted)
      XD_RAISE(system)
#undef XD_RAISE
  }
  throw Error(code, text);
}

}  // namespace crossdock
