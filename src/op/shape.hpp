// SPDX-License-Identifier: Apache-2.0
// From what the caller asks to the sizes that everything else uses.
#pragma once

#include "crossdock/config.hpp"
#include "types/shape.hpp"

namespace crossdock::op {

/// Sizes of a config that supports() accepts.
Shape shape_of(const Config& config, int num_ranks);

/// Name and values of the first member in which two configs differ, or an empty text.
std::string difference(const Config& mine, const Config& theirs);

/// What a shape takes, in pages of `page_bytes`.
MemoryUsage memory_usage_of(const Shape& shape, std::uint64_t page_bytes);

/// Host-visible bytes of one exchange, beside its arena.
inline constexpr std::uint64_t kReportBytes = 4096;

}  // namespace crossdock::op
