// SPDX-License-Identifier: Apache-2.0
// How a kernel finds the memory of its peers. Each rank allocates one arena, the memory of an exchange, and all ranks
// map it. A region has the same offset in all arenas.
#pragma once

#include <cstddef>
#include <cstdint>

#include "crossdock/types.hpp"
#include "platform/attributes.hpp"

namespace crossdock::memory {

/// The arenas of a group, as mapped by this rank.
struct Peers {
  std::byte* base[kMaxRanks];
  std::int32_t rank;
  std::int32_t num_ranks;

  /// The rank `step` (below W) after this one, cyclic. Loops over peers start here, so that ranks access different
  /// peers at a time.
  XD_FN int after(int step) const { return rank + step < num_ranks ? rank + step : rank + step - num_ranks; }

  /// Address of `offset` in the arena of `peer`, which may be this rank.
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
