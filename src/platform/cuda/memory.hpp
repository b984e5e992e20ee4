// SPDX-License-Identifier: Apache-2.0
// Device memory that peers map: virtual-memory allocations, shared as descriptors, or cudaMalloc, shared by IPC
// handles.
#pragma once

#include <string>

#include "platform/device_block.hpp"

namespace crossdock::platform::cuda {

/// Whether virtual-memory allocations of `ordinal` can be exported as file descriptors.
bool exports_descriptors(int ordinal);

/// Granularity of virtual-memory allocations on `ordinal`, in bytes.
std::uint64_t granularity(int ordinal);

/// Uninitialised memory on `ordinal`, accessible to its kernels, that can be exported as a descriptor.
BlockPtr allocate_mapped(int ordinal, std::uint64_t bytes);
/// A file descriptor of the allocation; the caller owns it.
int export_mapped(const Block& block);
/// Maps a peer's allocation for kernels of `ordinal`.
BlockPtr import_mapped(int ordinal, int descriptor, std::uint64_t bytes);

/// The same by cudaMalloc and cudaIpcMemHandle_t.
BlockPtr allocate_plain(int ordinal, std::uint64_t bytes);
std::string export_plain(const Block& block);
BlockPtr import_plain(int ordinal, const std::string& handle, std::uint64_t bytes);

/// Pinned host memory: kernels of every device write it, and the host sees the writes while they run.
BlockPtr allocate_pinned(int ordinal, std::uint64_t bytes);

}  // namespace crossdock::platform::cuda
