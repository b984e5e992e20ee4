// SPDX-License-Identifier: Apache-2.0
#include "litmus/launch_hip.hpp"
#include "litmus/main.hpp"

namespace crossdock::litmus {
namespace {

hipError_t launch(int blocks, hipStream_t stream, const Loop* loop) {
  static tools::hip::Code code(kLitmusCode, {"crossdock_litmus"});
  return code.launch(0, blocks, kThreads, stream, loop);
}

}  // namespace

int run_on_hip(const Options& options) { return run_all<tools::hip::Runtime, launch>(options, false); }

}  // namespace crossdock::litmus
