// SPDX-License-Identifier: Apache-2.0
// A tuning file: lines of key=value that `crossdock tune` writes. docs/howto/tune.md shows one.
#pragma once

#include <string>
#include <vector>

#include "tuning/geometry_request.hpp"

namespace crossdock::tuning {

/// What a file was measured on, and where it is read.
struct Stamp {
  std::string device;
  int num_ranks;
  std::string version;
};

/// What is launched, but for the number of tokens.
struct Key {
  bool combine = false;
  Path path = Path::staged;  // of combine
  Dtype dtype = Dtype::bf16;
  std::int32_t hidden = 0, top_k = 0, experts_per_rank = 0;
  bool operator==(const Key&) const = default;
};

struct Entry {
  Key key;
  std::int32_t tokens = 0;  // up to so many, from the next smaller entry of the key on
  GeometryRequest request;  // nothing: the rule is best there
};

/// ConfigError with file, line and reason: it cannot be read, was measured elsewhere, or is no such file.
std::vector<Entry> read_file(const std::string& path, const Stamp& here);

/// Entries of one key, fewest tokens first.
std::vector<Entry> entries_of(const std::vector<Entry>& all, const Key& key);

/// What the first entry that reaches so far asks; nothing beyond the last.
inline GeometryRequest request_for(const std::vector<Entry>& sorted, std::int64_t tokens) {
  for (const Entry& entry : sorted)
    if (tokens <= entry.tokens) return entry.request;
  return {};
}

}  // namespace crossdock::tuning
