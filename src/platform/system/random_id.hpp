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

/// 128 random bits from the kernel. SystemError if the system call fails.
Id128 random_id128();

/// The random id of this process; a forked child gets another one. Unlike a pid it is unique across pid namespaces.
Id128 process_id128();

/// 32 hexadecimal digits.
std::string hex_of(const Id128& id);

}  // namespace crossdock::platform::system
