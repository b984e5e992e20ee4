// SPDX-License-Identifier: Apache-2.0
// Unguessable numbers: names of sockets, secrets, and the identity of this process.
#pragma once

#include <cstdint>
#include <string>

namespace crossdock::platform::system {

struct Id128 {
  std::uint64_t word[2];
  bool operator==(const Id128&) const = default;
};

/// 128 bits from the kernel. SystemError if it refuses.
Id128 random_id128();

/// Drawn once per process, anew in a forked child. Unlike a pid it tells processes of different namespaces apart.
Id128 process_id128();

/// 32 hexadecimal digits.
std::string hex_of(const Id128& id);

}  // namespace crossdock::platform::system
