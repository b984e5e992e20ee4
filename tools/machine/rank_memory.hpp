// SPDX-License-Identifier: Apache-2.0
// How the host and the exchange of a rank see each other's memory. On the CPU both see the same bytes, so every function
// here gives back what it got; on a GPU it copies.
#pragma once

#include <cstring>
#include <map>
#include <vector>

#include "machine/machine.hpp"
#include "machine/pages.hpp"

namespace crossdock::tools {

class RankMemory {
 public:
  /// In the rank's thread, once `machine` uses its device.
  explicit RankMemory(Machine& machine)
      : machine_(machine), queue_(machine.is_host() ? nullptr : machine.make_queue()) {}

  /// Host memory: zeroed, aligned to a page, freed with this object. Null for 0 bytes.
  std::byte* take(std::size_t bytes) {
    blocks_.emplace_back(bytes);
    return blocks_.back().data();
  }

  /// Where the exchange reads what the host has written to `host`.
  template <class T>
  const T* for_exchange(const T* host, std::size_t bytes) {
    if (machine_.is_host() || bytes == 0) return host;
    T* device = mirror(host, bytes);
    machine_.copy(device, host, bytes);
    return device;
  }

  /// Where the exchange may write what result() then brings to `host`.
  template <class T>
  T* for_result(T* host, std::size_t bytes) {
    return machine_.is_host() || bytes == 0 ? host : mirror(host, bytes);
  }
  void result(void* host, std::size_t bytes) {
    if (machine_.is_host() || bytes == 0) return;
    synchronize();
    machine_.copy(host, mirror(host, bytes), bytes);
  }

  /// Memory of the exchange as the host may read it until the exchange writes it again, or this is asked again.
  template <class T>
  const T* readable(const T* of_exchange, std::size_t bytes) {
    if (machine_.is_host() || bytes == 0) return of_exchange;
    synchronize();
    Pages& pages = copies_[of_exchange];
    if (pages.bytes() < bytes) pages = Pages(bytes);
    machine_.copy(pages.data(), of_exchange, bytes);
    return pages.as<const T>();
  }

  /// Makes a pointer to memory of the exchange one that readable() gives.
  template <class T>
  void bring(T*& pointer, std::int64_t count, std::int64_t bytes_each) {
    if (!pointer) return;
    const auto* bytes = static_cast<const std::byte*>(static_cast<const void*>(pointer));
    bytes = readable(bytes, static_cast<std::size_t>(count * bytes_each));
    pointer = static_cast<T*>(const_cast<void*>(static_cast<const void*>(bytes)));
  }

  Machine& machine() const { return machine_; }
  /// What calls of this rank take; on the CPU they run in the calling thread.
  StreamHandle stream() const { return queue_ ? queue_->handle() : nullptr; }
  void synchronize() {
    if (queue_) queue_->synchronize();
  }

 private:
  /// Device memory that stands for memory of the host.
  template <class T>
  T* mirror(const T* host, std::size_t bytes) {
    Mirror& mirror = mirrors_[host];
    if (mirror.bytes < bytes) mirror = {machine_.allocate(bytes), bytes};
    return reinterpret_cast<T*>(mirror.data.get());
  }

  struct Mirror {
    DeviceBytes data;
    std::size_t bytes = 0;
  };
  Machine& machine_;
  std::unique_ptr<Queue> queue_;
  std::vector<Pages> blocks_;
  std::map<const void*, Mirror> mirrors_;
  std::map<const void*, Pages> copies_;
};

}  // namespace crossdock::tools
