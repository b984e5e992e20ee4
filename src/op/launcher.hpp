// SPDX-License-Identifier: Apache-2.0
// Launches of one call.
#pragma once

#include "crossdock/error.hpp"
#include "op/exchange_state.hpp"
#include "op/text.hpp"

namespace crossdock::op {

/// Launches the kernels of one call on its stream. If the first launch fails, nothing is enqueued and the error is the
/// caller's. If a later one fails, peers already wait for the rest of the call and the epochs of the ranks would differ
/// for ever: the group is aborted with the reason.
class Launcher {
 public:
  Launcher(const detail::ExchangeState& exchange, const char* call, StreamHandle stream)
      : exchange_(exchange), call_(call), stream_(stream) {}

  template <class Args>
  void operator()(kernels::Launch<Args> launch, const platform::Geometry& geometry, const Args& args) {
    try {
      launch(geometry, stream_, args);
    } catch (const Error& error) {
      if (num_launched_ > 0)
        exchange_.group->abort(text(call_, " could launch ", num_launched_, " of its kernels only: ", error.what()));
      throw;
    }
    ++num_launched_;
  }

 private:
  const detail::ExchangeState& exchange_;
  const char* call_;
  StreamHandle stream_;
  int num_launched_ = 0;
};

}  // namespace crossdock::op
