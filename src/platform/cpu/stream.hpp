// SPDX-License-Identifier: Apache-2.0
// How the library puts work on a stream of the CPU machine.
#pragma once

#include <functional>

#include "crossdock/types.hpp"

namespace crossdock::platform::cpu {

/// Runs `call` on the stream: after everything enqueued before, or recorded if the stream is capturing. nullptr: now, in
/// this thread. UsageError if `stream` is not the handle of a live CpuStream. Allocates nothing for a call whose capture
/// is two pointers or less, once the queue has reached its length.
void enqueue_on(StreamHandle stream, std::function<void()> call);

/// UsageError unless `stream` is nullptr or the handle of a live CpuStream. A few loads; takes no lock.
void check_stream(StreamHandle stream);

}  // namespace crossdock::platform::cpu
