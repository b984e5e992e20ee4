// SPDX-License-Identifier: Apache-2.0
// The environment variables of lists.h that groups and configs depend on. They are read by supports(), by memory_of(),
// and when a group or an exchange is made, never in dispatch or combine.
#pragma once

#include <chrono>
#include <span>
#include <string>

#include "crossdock/types.hpp"
#include "types/ll_packet.hpp"

namespace crossdock::op {

/// kMachines: all backends except `automatic`, in the order in which `automatic` looks for a device.
#define XD_KIND(name, ...) BackendKind::name,
inline constexpr BackendKind kBackendKinds[] = {XD_BACKENDS(XD_KIND)};
#undef XD_KIND
static_assert(kBackendKinds[0] == BackendKind::automatic);
inline constexpr std::span<const BackendKind> kMachines = std::span(kBackendKinds).subspan(1);

/// CROSSDOCK_DEADLINE_MS. ConfigError if it is not a number.
std::chrono::milliseconds environment_deadline();

/// CROSSDOCK_TUNING_FILE; `none`: no tuning file.
std::string environment_tuning_file();

/// CROSSDOCK_PACKET_TOKENS: exchanges of up to so many tokens per rank send rows in LL packets. ConfigError if it is no
/// number from 0 to ll_packet::kMaxTokens.
int environment_packet_tokens();

/// CROSSDOCK_BACKEND. ConfigError if it is no name of XD_BACKENDS.
BackendKind environment_backend();

}  // namespace crossdock::op
