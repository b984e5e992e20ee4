// SPDX-License-Identifier: Apache-2.0
// How a machine joins the tools: one static MachineKind in a file of its own. Builds without a vendor's compiler leave its
// folder out, and nothing else changes.
#pragma once

#include "machine/machine.hpp"

namespace crossdock::tools {

using OpenMachine = std::shared_ptr<Machine> (*)(const std::vector<int>& devices);

/// `static const MachineKind machine(BackendKind::cuda, ...);` is all that open_machine needs to know.
class MachineKind {
 public:
  MachineKind(BackendKind kind, OpenMachine open);
};

}  // namespace crossdock::tools
