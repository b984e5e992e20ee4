// SPDX-License-Identifier: Apache-2.0
// Reads tuning files: lines of key=value that `crossdock tune` writes. docs/howto/tune.md shows one.
#pragma once

#include <string>
#include <vector>

#include "tuning/geometry_request.hpp"

namespace crossdock::tuning {

/// What a file is valid for. The first line of a file has the stamp of the machine that measured it. It must be equal
/// to that of the group that reads it.
struct Stamp {
  std::string device;
  int num_ranks;
  std::string version;
};

/// Everything that selects an entry, except for the number of tokens.
struct Key {
  bool combine = false;
  Path path = Path::staged;  // of combine only
  Dtype dtype = Dtype::bf16;
  std::int32_t hidden = 0, top_k = 0, experts_per_rank = 0;
  bool operator==(const Key&) const = default;
};

/// A line of a tuning file.
struct Entry {
  Key key;
  std::int32_t tokens = 0;  // serves calls of up to so many tokens, and of more than the next smaller entry of the key
  GeometryRequest request;  // all 0: the library's rule was the fastest
};

/// Reads a file. ConfigError with file, line and reason if it cannot be read, has a stamp other than `here`, or a line
/// that is not valid.
std::vector<Entry> read_file(const std::string& path, const Stamp& here);

/// Entries of one key, fewest tokens first.
std::vector<Entry> entries_of(const std::vector<Entry>& all, const Key& key);

/// The request of the first entry that serves `tokens`; all 0 if `tokens` is above the last entry.
inline GeometryRequest request_for(const std::vector<Entry>& sorted, std::int64_t tokens) {
  for (const Entry& entry : sorted)
    if (tokens <= entry.tokens) return entry.request;
  return {};
}

}  // namespace crossdock::tuning
