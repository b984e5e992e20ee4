// SPDX-License-Identifier: Apache-2.0
// Launches of the CPU: a call on the stream's queue that runs the body as one block of one thread.
#pragma once

#include "kernels/launch/launch.hpp"
#include "platform/cpu/float_mode.hpp"
#include "platform/cpu/scalar_machine.hpp"
#include "platform/cpu/stream.hpp"

namespace crossdock::kernels::cpu {

/// Wraps `body(machine, args)` into a launch.
template <class Args, class Body>
void enqueue(StreamHandle stream, const Args& args, Body body) {
  platform::cpu::enqueue_on(stream, [args, body] {
    const platform::cpu::DefaultFloatMode mode;
    platform::cpu::ScalarMachine machine;
    body(machine, args);
    platform::cpu::end_streaming_stores();  // the caller may then signal other threads by a plain store
  });
}

}  // namespace crossdock::kernels::cpu
