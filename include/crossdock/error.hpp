// SPDX-License-Identifier: Apache-2.0
// What goes wrong, as exceptions: one class per status, one text form: what failed, values, rank, rule, what to do.
#pragma once

#include <stdexcept>
#include <string>

#include "crossdock/types.hpp"

namespace crossdock {

/// Base of all exceptions of the library. `what()` names the call, the values, the rank and the rule.
class XD_PUBLIC Error : public std::runtime_error {
 public:
  Error(StatusCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  StatusCode code() const noexcept { return code_; }

 private:
  StatusCode code_;
};

/// `StatusError<StatusCode::capacity>` and so on; catch these by the names below.
template <StatusCode kCode>
class XD_PUBLIC StatusError : public Error {
 public:
  explicit StatusError(const std::string& text) : Error(kCode, text) {}
};

using UsageError = StatusError<StatusCode::usage>;         ///< an argument breaks a rule
using ConfigError = StatusError<StatusCode::config>;       ///< refused configuration, or ranks that disagree on it
using StateError = StatusError<StatusCode::state>;         ///< the call does not fit what came before it
using CapacityError = StatusError<StatusCode::capacity>;   ///< overflow under `Overflow::error`
using TopologyError = StatusError<StatusCode::topology>;   ///< devices that cannot reach each other
using PeerLostError = StatusError<StatusCode::peer_lost>;  ///< a peer did not answer; the group must be closed
using AbortedError = StatusError<StatusCode::aborted>;     ///< some rank called abort; the group must be closed
using SystemError = StatusError<StatusCode::system>;       ///< the operating system or driver refused

/// Throws the class that belongs to `code`.
[[noreturn]] XD_PUBLIC void raise(StatusCode code, const std::string& text);

/// What `poll()` sees. `code == ok` leaves the other members without meaning.
struct Status {
  StatusCode code = StatusCode::ok;
  Edge edge = Edge::none;            ///< the wait that failed, on the rank that gave up first
  std::int32_t rank = -1;            ///< the rank that noticed
  std::int32_t peer = -1;            ///< the rank that is blamed
  std::uint64_t epoch_expected = 0;  ///< what the wait looked for
  std::uint64_t epoch_seen = 0;      ///< what it saw last
  bool fatal = false;                ///< true: close the group; false: `Exchange::clear_status()` is enough
  std::string text;                  ///< the whole story, for a person
};

}  // namespace crossdock
