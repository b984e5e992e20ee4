// SPDX-License-Identifier: Apache-2.0
// What tests may ask of the fake HIP runtime beyond HIP's own functions. It is loaded as libamdhip64.so.7.
//
// FAKE_HIP="name=value ..." sets what it pretends, read at each call: devices, major and minor (version of the GPUs), cus,
// threads (most of a block), width, khz (wall clock), version (of the runtime), memory (bytes of a device), granularity,
// occupancy, order (seed of the fibers), queues (of the hardware, by device and priority; 0: one a stream); and with 0 what it refuses: peer, map, load, launch.
#pragma once

/// Device memory, mappings and streams of the library that nobody has given back.
extern "C" int fake_hip_live();
/// The calling thread's sticky error.
extern "C" int fake_hip_last_error();
