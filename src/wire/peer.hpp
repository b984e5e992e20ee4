// SPDX-License-Identifier: Apache-2.0
// HOW kernels access the arenas of other ranks: only through PeerPtr. Another transport replaces this file. Only the
// control words of a failure are written without it (sync/wait_device.hpp: fail); they are outside the arena.
//
// A PeerPtr is an address in the arena of some rank, this rank included. Callers do not distinguish local from remote
// memory. Each operation states its memory order, as in platform/machine.hpp.
#pragma once

#include "memory/peers.hpp"
#include "platform/machine.hpp"

namespace crossdock::wire {

using platform::Bytes16;

class PeerPtr {
 public:
  PeerPtr() = default;
  XD_FN PeerPtr(const memory::Peers& peers, int peer, std::uint64_t offset)
      : address_(peers.remote<std::byte>(peer, offset)) {}

  XD_FN explicit operator bool() const { return address_ != nullptr; }
  XD_FN PeerPtr operator+(std::int64_t bytes) const { return PeerPtr(address_ + bytes); }

  /// Stores 16 bytes of a row. A later signal() orders them.
  template <class M>
  XD_FN void put16(M& m, Bytes16 bytes) const {
    m.store16_streaming(address_, bytes);
  }
  /// Stores 16 bytes that become visible together: an LL packet. A reader that sees its last word sees the others.
  template <class M>
  XD_FN void put16_atomic(M& m, Bytes16 bytes) const {
    m.store16_atomic(address_, bytes);
  }
  /// Stores metadata of a row. A later signal() orders it.
  template <class T>
  XD_FN void put(const T& value) const {
    *reinterpret_cast<T*>(address_) = value;
  }
  /// Stores a word that carries its own epoch. It orders no other memory.
  template <class M>
  XD_FN void put_word(M& m, std::uint64_t word) const {
    m.store_relaxed(reinterpret_cast<std::uint64_t*>(address_), word);
  }
  /// Stores a signal: a release of everything that this thread has stored or has seen.
  template <class M>
  XD_FN void signal(M& m, std::uint64_t word) const {
    m.store_release(reinterpret_cast<std::uint64_t*>(address_), word);
  }
  /// Stores a signal that releases the writes of earlier kernels of the stream only, which is cheaper.
  template <class M>
  XD_FN void signal_prior_kernels(M& m, std::uint64_t word) const {
    m.store_release_prior_kernels(reinterpret_cast<std::uint64_t*>(address_), word);
  }

  /// Loads 16 bytes of a row, after the wait for its signal.
  template <class M>
  XD_FN Bytes16 get16(M& m) const {
    return m.load16_streaming(address_);
  }
  /// Loads one value of a row, after the wait for its signal.
  template <class T>
  XD_FN T get() const {
    return *reinterpret_cast<const T*>(address_);
  }

 private:
  XD_FN explicit PeerPtr(std::byte* address) : address_(address) {}

  std::byte* address_ = nullptr;
};

}  // namespace crossdock::wire
