// SPDX-License-Identifier: Apache-2.0
// The steps as kernels.
#pragma once

#include "support/device_steps.hpp"

namespace crossdock::testing::cuda {

#ifdef CROSSDOCK_WITH_CUDA
void next_turn(StreamHandle stream, Turn* turn);
void choose(StreamHandle stream, const Turn* turn, void* to, const Versions& from);
void compare(StreamHandle stream, const Turn* turn, const void* is, const Versions& should, int what,
             Difference* difference);
void delay(StreamHandle stream, const Turn* turn, int rank, int most_us);
#else  // never called
inline void next_turn(StreamHandle, Turn*) {}
inline void choose(StreamHandle, const Turn*, void*, const Versions&) {}
inline void compare(StreamHandle, const Turn*, const void*, const Versions&, int, Difference*) {}
inline void delay(StreamHandle, const Turn*, int, int) {}
#endif

}  // namespace crossdock::testing::cuda
