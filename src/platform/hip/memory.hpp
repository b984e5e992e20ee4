// SPDX-License-Identifier: Apache-2.0
// Device memory that peers map.
//
// Fine-grained, because peers read rows and flags while the kernels that wrote them are still running: AMD promises that
// other devices see coarse-grained memory (hipMalloc) only after a kernel has ended. Not uncached, because the caller's
// experts read the received rows again and again.
#pragma once

#include <string>

#include "platform/device_block.hpp"

namespace crossdock::platform::hip {

/// Fine-grained memory on `ordinal`, shared between processes by IPC handles.
BlockPtr allocate_plain(int ordinal, std::uint64_t bytes);
std::string export_plain(const Block& block);
/// Maps the allocation of a rank of another process.
BlockPtr import_plain(int ordinal, const std::string& handle, std::uint64_t bytes);

/// Memory of the virtual-memory interface, shared as file descriptors.
std::uint64_t granularity(int ordinal);
BlockPtr allocate_mapped(int ordinal, std::uint64_t bytes);
int export_mapped(const Block& block);
BlockPtr import_mapped(int ordinal, int descriptor, std::uint64_t bytes);

/// Pinned host memory that kernels of every device can write and the host reads at once.
BlockPtr allocate_pinned(int ordinal, std::uint64_t bytes);

}  // namespace crossdock::platform::hip
