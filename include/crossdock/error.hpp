// SPDX-License-Identifier: Apache-2.0
// Exceptions: one class per status code. A text has the call and, as far as they apply, the values, the rank, the rule
// and what to do.
#pragma once

#include <stdexcept>
#include <string>

#include "crossdock/types.hpp"

namespace crossdock {

/// Base of all exceptions of the library.
class XD_PUBLIC Error : public std::runtime_error {
 public:
  Error(StatusCode code, const std::string& text) : std::runtime_error(text), code_(code) {}
  StatusCode code() const noexcept { return code_; }

 private:
  StatusCode code_;
};

/// One class per status code. Catch them by the names below.
template <StatusCode kCode>
class XD_PUBLIC StatusError : public Error {
 public:
  explicit StatusError(const std::string& text) : Error(kCode, text) {}
};

using UsageError = StatusError<StatusCode::usage>;         ///< an argument breaks a rule
using ConfigError = StatusError<StatusCode::config>;       ///< a configuration is not supported, or ranks differ in it
using StateError = StatusError<StatusCode::state>;         ///< the call is not legal after the calls before it
using CapacityError = StatusError<StatusCode::capacity>;   ///< overflow under `Overflow::error`
using TopologyError = StatusError<StatusCode::topology>;   ///< no such device, or devices without access to each other
using PeerLostError = StatusError<StatusCode::peer_lost>;  ///< a peer did not answer; the group must be closed
using AbortedError = StatusError<StatusCode::aborted>;     ///< some rank called abort; the group must be closed
using SystemError = StatusError<StatusCode::system>;       ///< a call of the operating system or the driver failed

/// Throws the class that belongs to `code`.
[[noreturn]] XD_PUBLIC void raise(StatusCode code, const std::string& text);

/// Result of `poll()`. With `code == ok` the other members have no meaning. Edge, peer and epochs are those of the
/// group's first failed wait. An edge is a kind of signal between ranks, an epoch the number of an operation.
struct Status {
  StatusCode code = StatusCode::ok;
  Edge edge = Edge::none;            ///< signal that the wait was for
  std::int32_t rank = -1;            ///< this rank; `text` also names the rank that waited, if it is another one
  std::int32_t peer = -1;            ///< rank that was waited for, or that called abort
  std::uint64_t epoch_expected = 0;  ///< epoch that the wait expected
  std::uint64_t epoch_seen = 0;      ///< epoch that it saw last
  bool fatal = false;                ///< true: close the group; false: `Exchange::clear_status()` suffices
  std::string text;                  ///< call, values, rank, rule and advice as sentences
};

}  // namespace crossdock
