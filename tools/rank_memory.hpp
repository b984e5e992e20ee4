// SPDX-License-Identifier: Apache-2.0
// How the host and the exchange of a rank see each other's memory. On the CPU both see the same bytes, so every function
// here gives back what it got; a backend with memory of its own copies instead.
#pragma once

#include <cstring>
#include <vector>

#include "pages.hpp"

namespace crossdock::tools {

class RankMemory {
 public:
  /// Host memory: zeroed, aligned to a page, freed with this object. Null for 0 bytes.
  std::byte* take(std::size_t bytes) {
    blocks_.emplace_back(bytes);
    return blocks_.back().data();
  }

  /// Where the exchange reads what the host has written to `host`.
  template <class T>
  const T* for_exchange(const T* host, std::size_t /*bytes*/) {
    return host;
  }

  /// Where the exchange may write what result() then brings to `host`.
  template <class T>
  T* for_result(T* host, std::size_t /*bytes*/) {
    return host;
  }
  void result(void* /*host*/, std::size_t /*bytes*/) {}

  /// Memory of the exchange as the host may read it until the exchange writes it again.
  template <class T>
  const T* readable(const T* of_exchange, std::size_t /*bytes*/) {
    return of_exchange;
  }

  /// Brings bytes of the host into memory of the exchange.
  void store(void* of_exchange, const void* host, std::size_t bytes) {
    if (bytes) std::memcpy(of_exchange, host, bytes);
  }

 private:
  std::vector<Pages> blocks_;
};

}  // namespace crossdock::tools
