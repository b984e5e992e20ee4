// SPDX-License-Identifier: Apache-2.0
// How a kernel finds memory: one arena per rank, mapped by all, the same offsets everywhere.
#pragma once

#include <cstddef>
#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"

namespace crossdock::memory {

/// The arenas of a group, as this rank maps them.
struct Peers {
  std::byte* base[kMaxRanks];
  std::int32_t rank;
  std::int32_t num_ranks;

  /// The rank `step` (below W) after this one, around: ranks that begin with different peers do not crowd one.
  XD_FN int after(int step) const { return rank + step < num_ranks ? rank + step : rank + step - num_ranks; }

  template <class T>
  XD_FN T* remote(int peer, std::uint64_t offset) const {
    return reinterpret_cast<T*>(base[peer] + offset);
  }
  template <class T>
  XD_FN T* local(std::uint64_t offset) const {
    return remote<T>(rank, offset);
  }
};

}  // namespace crossdock::memory
