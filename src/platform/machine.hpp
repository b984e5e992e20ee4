// SPDX-License-Identifier: Apache-2.0
// Every operation by which the body of a kernel uses the hardware. A body is a function template over a machine, which
// is a class with these members and no others; each thread of a kernel has one machine object. A warp has 64, 32 or 1
// threads, a block on a GPU up to kMaxThreads.
#pragma once

#include <concepts>
#include <cstdint>

#include "platform/attributes.hpp"

namespace crossdock::platform {

/// 16 bytes, the unit in which rows are copied.
struct alignas(16) Bytes16 {
  std::uint32_t word[4];
};

/// Blocks and threads of one launch.
struct Geometry {
  int num_blocks = 1;
  int num_threads = 1;  ///< per block, a multiple of the machine's width
};

/// Most threads per block on a GPU. With one such block per multiprocessor, every body has enough registers.
inline constexpr int kMaxThreads = 512;

template <class M>
concept Machine = requires(M& m, const M& c, const void* from, void* to, Bytes16 bytes, std::uint32_t* word32,
                           std::uint64_t* word64, const std::uint64_t* read64, float number, int n, bool flag) {
  // identity
  { M::kWidth } -> std::convertible_to<int>;  // threads per warp
  { c.lane() } -> std::same_as<int>;          // in the warp
  { c.warp() } -> std::same_as<int>;          // in the block
  { c.num_warps() } -> std::same_as<int>;     // of the block
  { c.thread() } -> std::same_as<int>;        // in the block
  { c.num_threads() } -> std::same_as<int>;   // of the block
  { c.block() } -> std::same_as<int>;         // in the grid
  { c.num_blocks() } -> std::same_as<int>;    // of the grid
  // collective in a block or warp
  m.sync_block();                                      // barrier; orders shared and global memory inside the block
  m.sync_warp();                                       // the same for a warp
  { m.sync_block_or(flag) } -> std::same_as<bool>;     // barrier; returns the OR of all threads' flags
  { m.max_across(number, n) } -> std::same_as<float>;  // over n neighbouring lanes, n a power of two up to kWidth
  { m.ballot(flag) } -> std::same_as<std::uint64_t>;   // of the warp, bit i: lane i
  // rows
  { m.load16(from) } -> std::same_as<Bytes16>;            // data that this device reads again
  { m.load16_streaming(from) } -> std::same_as<Bytes16>;  // data that is read once
  m.store16(to, bytes);                                   // data that this device reads soon
  m.store16_streaming(to, bytes);                         // data for a peer, or not read soon
  // LL packets, system scope: a load that sees the last of the four words of a store sees the other three, too. Orders
  // no other access.
  { m.load16_atomic(from) } -> std::same_as<Bytes16>;
  m.store16_atomic(to, bytes);
  // words; the memory order is on the operation
  { m.load_relaxed(read64) } -> std::same_as<std::uint64_t>;  // system scope
  { m.load_acquire(read64) } -> std::same_as<std::uint64_t>;  // system scope
  m.store_relaxed(word64, std::uint64_t{});                   // system scope
  m.store_release(word64, std::uint64_t{});                   // system scope
  // system scope; a release of what prior kernels of the stream wrote. It does not order this kernel's stores.
  m.store_release_prior_kernels(word64, std::uint64_t{});
  m.fence_loads();  // system scope; orders earlier loads of this thread before its later ones
  { m.add_acq_rel(word32, std::uint32_t{}) } -> std::same_as<std::uint32_t>;  // this device; returns the old value
  { m.add_relaxed(word32, std::uint32_t{}) } -> std::same_as<std::uint32_t>;  // this device or block
  m.or_relaxed(word32, std::uint32_t{});                                      // shared memory of this block
  { m.claim(word64, std::uint64_t{}) } -> std::same_as<bool>;  // this device; true: the word was 0 and is set to value
  // time
  { m.now_ns() } -> std::same_as<std::uint64_t>;  // monotonic on this device
  m.pause();                                      // called in every polling loop
};

}  // namespace crossdock::platform
