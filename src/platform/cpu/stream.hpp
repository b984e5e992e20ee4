// SPDX-License-Identifier: Apache-2.0
// Enqueues work of the library on streams of the CPU.
#pragma once

#include <functional>

#include "crossdock/types.hpp"

namespace crossdock::platform::cpu {

/// Enqueues `call` on the stream, or records it if the stream is capturing. nullptr: runs it now, in this thread.
/// UsageError if `stream` is not the handle of a live CpuStream. Allocates nothing if the lambda captures at most two
/// pointers and the queue does not grow.
void enqueue_on(StreamHandle stream, std::function<void()> call);

/// UsageError unless `stream` is nullptr or the handle of a live CpuStream. A few loads; takes no lock.
void check_stream(StreamHandle stream);

}  // namespace crossdock::platform::cpu
