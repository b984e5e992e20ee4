// SPDX-License-Identifier: Apache-2.0
#include "support/device_steps_hip.hpp"
#include "support/gpu_machine.hpp"

namespace crossdock::testing {
namespace {

hipError_t launch_step(StepKind kind, int blocks, int threads, hipStream_t stream, const Step* step) {
#define XD_NAME(name) "crossdock_tests_" #name,
  static tools::hip::Code code(hip::kStepsCode, {XD_STEPS(XD_NAME)});
#undef XD_NAME
  return code.launch(static_cast<int>(kind), blocks, threads, stream, step);
}

}  // namespace

const Machine& hip_machine() { return GpuMachine<tools::hip::Runtime>::table<launch_step>; }

}  // namespace crossdock::testing
