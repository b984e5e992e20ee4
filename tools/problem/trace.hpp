// SPDX-License-Identifier: Apache-2.0
// A recorded routing: which experts each token of each rank went to, with which weights. docs/traces.md has the format.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace crossdock::tools {

struct Trace {
  int num_experts = 0;
  int top_k = 0;
  std::vector<int> tokens;        ///< T of each rank
  std::vector<std::int32_t> ids;  ///< [sum of T][k], ranks one after the other
  std::vector<float> weights;     ///< [sum of T][k]
  std::string note;               ///< where it comes from, for a person

  int num_ranks() const { return static_cast<int>(tokens.size()); }
  std::int64_t num_tokens() const;                       ///< of all ranks
  std::span<const std::int32_t> ids_of(int rank) const;  ///< [T][k] of one rank
  std::span<const float> weights_of(int rank) const;     ///< [T][k] of one rank
};

/// Throws BadInput: missing, unreadable, empty, no trace, a header with a bad member, truncated, too long.
Trace read_trace(const std::string& path);

/// Throws BadInput if a flag's value is another than the one of `file`.
void require_recorded(const std::string& flag, int value, const std::string& file, int recorded);

/// Throws BadInput if a trace could not be written there; to be told before a long job, not after it.
void require_writable_trace(const std::string& path);

/// Throws BadInput if the file cannot be written.
void write_trace(const std::string& path, const Trace& trace);

}  // namespace crossdock::tools
