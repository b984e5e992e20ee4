// SPDX-License-Identifier: Apache-2.0
// Device memory that peers map.
//
// The memory is fine-grained, because peers read rows and flags while the kernels that write them still run. Writes to
// coarse-grained memory (hipMalloc) are visible to other devices only after the kernel has ended. The memory is cached,
// because the caller's experts read the received rows many times.
#pragma once

#include <string>

#include "platform/device_block.hpp"

namespace crossdock::platform::hip {

/// Fine-grained memory on `ordinal`, shared between processes by IPC handles.
BlockPtr allocate_plain(int ordinal, std::uint64_t bytes);
std::string export_plain(const Block& block);
/// Maps an allocation of another process.
BlockPtr import_plain(int ordinal, const std::string& handle, std::uint64_t bytes);

/// Memory of the virtual-memory interface, shared between processes as file descriptors. AMD does not document whether
/// it is fine-grained, so it is not the default.
std::uint64_t granularity(int ordinal);
BlockPtr allocate_mapped(int ordinal, std::uint64_t bytes);
/// A file descriptor of the allocation; the caller owns it.
int export_mapped(const Block& block);
BlockPtr import_mapped(int ordinal, int descriptor, std::uint64_t bytes);

/// Pinned, coherent host memory: kernels of every device write it, and the host sees the writes while they run.
BlockPtr allocate_pinned(int ordinal, std::uint64_t bytes);

}  // namespace crossdock::platform::hip
