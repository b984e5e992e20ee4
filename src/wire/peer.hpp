// SPDX-License-Identifier: Apache-2.0
// HOW: the only way from a kernel to the memory of a rank. Another transport replaces this file.
//
// A PeerPtr is an address in the arena of some rank, the own one included. Whether a store crosses a link depends on the rank
// alone, so callers need not tell them apart. The order of memory is on the verb, as in platform/machine.hpp.
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

  /// 16 bytes of a row. Ordered by a later signal.
  template <class M>
  XD_FN void put16(M& m, Bytes16 bytes) const {
    m.store16_streaming(address_, bytes);
  }
  /// 16 bytes that arrive as one: an LL packet, whose last word says that the others are there.
  template <class M>
  XD_FN void put16_atomic(M& m, Bytes16 bytes) const {
    m.store16_atomic(address_, bytes);
  }
  /// Metadata of a row. Ordered by a later signal.
  template <class T>
  XD_FN void put(const T& value) const {
    *reinterpret_cast<T*>(address_) = value;
  }
  /// A word that carries its own epoch. Orders nothing else.
  template <class M>
  XD_FN void put_word(M& m, std::uint64_t word) const {
    m.store_relaxed(reinterpret_cast<std::uint64_t*>(address_), word);
  }
  /// A signal: a release of everything that this thread has stored or has seen.
  template <class M>
  XD_FN void signal(M& m, std::uint64_t word) const {
    m.store_release(reinterpret_cast<std::uint64_t*>(address_), word);
  }
  /// A signal that releases the writes of earlier kernels of the stream only.
  template <class M>
  XD_FN void signal_prior_kernels(M& m, std::uint64_t word) const {
    m.store_release_prior_kernels(reinterpret_cast<std::uint64_t*>(address_), word);
  }

  /// 16 bytes of a row, after the wait for its signal.
  template <class M>
  XD_FN Bytes16 get16(M& m) const {
    return m.load16_streaming(address_);
  }
  /// One value of a row, after the wait for its signal.
  template <class T>
  XD_FN T get() const {
    return *reinterpret_cast<const T*>(address_);
  }

 private:
  XD_FN explicit PeerPtr(std::byte* address) : address_(address) {}

  std::byte* address_ = nullptr;
};

}  // namespace crossdock::wire
