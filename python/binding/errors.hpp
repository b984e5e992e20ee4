// SPDX-License-Identifier: Apache-2.0
// The exception tree: crossdock.Error and one class for each status of lists.h.
#pragma once

#include <nanobind/nanobind.h>

#include "crossdock/error.hpp"

namespace crossdock::python {

/// Makes the classes in `module` and translates the library's exceptions into them.
void bind_errors(nanobind::module_& module);

/// "peer_lost" -> "PeerLostError"
std::string class_name_of(StatusCode code);

}  // namespace crossdock::python
