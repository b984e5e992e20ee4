// SPDX-License-Identifier: Apache-2.0
// The rows of instances.def that this build has. Builds with sanitizers leave some out, see tests/README.md.
#pragma once

#include "crossdock/types.hpp"

namespace crossdock::testing {

struct Instance {
  Dtype rows;
  CombineQuant combine_quant;
  bool operator==(const Instance&) const = default;
};

#define XD_COMBINE(dtype, combine_quant) {Dtype::dtype, CombineQuant::combine_quant},
inline constexpr Instance kInstances[] = {
#include "kernels/launch/instances.def"
};
inline constexpr Instance kBuiltInstances[] = {
#include "built_instances.def"
};
#undef XD_COMBINE

/// Whether combine of such rows exists, but not in this build: creating its exchange is refused.
constexpr bool is_left_out(Dtype rows, CombineQuant combine_quant) {
  for (const Instance& built : kBuiltInstances)
    if (built == Instance{rows, combine_quant}) return false;
  for (const Instance& instance : kInstances)
    if (instance == Instance{rows, combine_quant}) return true;
  return false;
}

/// The refusal's reason.
inline constexpr const char* kLeftOut = "this build of the library has no combine of";

}  // namespace crossdock::testing
