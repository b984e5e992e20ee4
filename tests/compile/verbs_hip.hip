// SPDX-License-Identifier: Apache-2.0
// Every verb of the vocabulary whose meaning rests on certain instructions, in a kernel of its own. Compiled and looked
// at, never run: check_amd.py compares the instructions with AMD's memory model. XD_WIDTH: lanes of a wave.
#include "platform/hip/shim_device.hpp"

#include "platform/hip/hip_machine_device.hpp"

using crossdock::platform::Bytes16;
using Machine = crossdock::platform::hip::HipMachineOf<XD_WIDTH>;
using Word = std::uint64_t;

#define XD_VERB(name, ...) extern "C" __global__ void verb_##name(__VA_ARGS__)

XD_VERB(load_relaxed, const Word* from, Word* to) { *to = Machine::load_relaxed(from); }
XD_VERB(load_acquire, const Word* from, Word* to) { *to = Machine::load_acquire(from); }
XD_VERB(store_relaxed, Word* to, Word v) { Machine::store_relaxed(to, v); }
XD_VERB(store_release, Word* to, Word v) { Machine::store_release(to, v); }
XD_VERB(store_release_prior_kernels, Word* to, Word v) { Machine::store_release_prior_kernels(to, v); }
XD_VERB(fence_loads, const Word* from, Word* to) {
  const Word before = from[Machine::thread()];
  Machine::fence_loads();
  to[2 * Machine::thread()] = from[Machine::thread() + 1];
  to[2 * Machine::thread() + 1] = before;
}
XD_VERB(add_acq_rel, std::uint32_t* at, std::uint32_t v, std::uint32_t* old) { *old = Machine::add_acq_rel(at, v); }
XD_VERB(add_relaxed, std::uint32_t* at, std::uint32_t v) { (void)Machine::add_relaxed(at, v); }
XD_VERB(or_relaxed, std::uint32_t* at, std::uint32_t v) { Machine::or_relaxed(at, v); }
XD_VERB(claim, Word* at, Word v, bool* won) { *won = Machine::claim(at, v); }
XD_VERB(load16, const Bytes16* from, Bytes16* to) { to[Machine::thread()] = Machine::load16(from + Machine::thread()); }
XD_VERB(load16_streaming, const Bytes16* from, Bytes16* to) {
  to[Machine::thread()] = Machine::load16_streaming(from + Machine::thread());
}
XD_VERB(store16, Bytes16* to, Bytes16 v) { Machine::store16(to, v); }
XD_VERB(store16_streaming, Bytes16* to, Bytes16 v) { Machine::store16_streaming(to, v); }
XD_VERB(load16_atomic, const Bytes16* from, Bytes16* to) {
  to[Machine::thread()] = Machine::load16_atomic(from + Machine::thread());
}
XD_VERB(store16_atomic, Bytes16* to, Bytes16 v) { Machine::store16_atomic(to, v); }
XD_VERB(sync_block, int* to) {
  __shared__ int shared;
  shared = Machine::thread();
  Machine::sync_block();
  *to = shared;
}
XD_VERB(sync_block_or, bool flag, bool* any) { *any = Machine::sync_block_or(flag && Machine::thread() == 1); }
XD_VERB(max_across, float* at) { at[Machine::thread()] = Machine::max_across(at[Machine::thread()], 8); }
XD_VERB(ballot, const int* at, Word* to) { *to = Machine::ballot(at[Machine::thread()] > 0); }
XD_VERB(now_ns, Word* to) { *to = Machine::now_ns(); }
XD_VERB(pause) { Machine::pause(); }
