// SPDX-License-Identifier: Apache-2.0
// From a Config to the sizes that kernels and memory use.
#pragma once

#include "crossdock/config.hpp"
#include "types/shape.hpp"

namespace crossdock::op {

/// Sizes of a config that supports() accepts.
Shape shape_of(const Config& config, int num_ranks);

/// "<member> = <mine> here and <theirs> there" for the first member in which two configs differ; empty if none.
std::string difference(const Config& mine, const Config& theirs);

/// Memory of an exchange of this shape, in pages of `page_bytes`.
MemoryUsage memory_usage_of(const Shape& shape, std::uint64_t page_bytes);

/// Bytes of the sync::ReportRecord of an exchange, a whole page. Kernels write it and the host reads it, so it is host
/// memory and not in the arena.
inline constexpr std::uint64_t kReportBytes = 4096;

}  // namespace crossdock::op
