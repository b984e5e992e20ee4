// SPDX-License-Identifier: Apache-2.0
// A loop as in the kernels must never find a row out of order. One that is weakened should; where the hardware hides it, that is
// noted.
//
// usage: litmus [--rounds N] [--channels N]   rounds of each loop and direction, all channels together; loops side by side.
// CROSSDOCK_BACKEND chooses between cuda and hip where a build has both.
#include <cstdlib>
#include <exception>
#include <string_view>

#include "litmus/main.hpp"

namespace crossdock::litmus {
namespace {

Options options_of(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::string_view(argv[i]) == "--rounds") options.rounds = std::atol(argv[i + 1]);
    if (std::string_view(argv[i]) == "--channels") options.channels = std::atoi(argv[i + 1]);
  }
  if (options.rounds < 1 || options.channels < 1 || options.channels > kChannels)
    throw std::runtime_error("--rounds must be positive, --channels 1 to " + std::to_string(kChannels));
  return options;
}

int run(int argc, char** argv) {
  const char* wanted = std::getenv("CROSSDOCK_BACKEND");
  const Options options = options_of(argc, argv);
#define XD_MACHINE(name) \
  if (!wanted || !*wanted || std::string_view(wanted) == #name) return run_on_##name(options);
#include "litmus_machines.def"
#undef XD_MACHINE
  throw std::runtime_error("this build has no loops for CROSSDOCK_BACKEND = " + std::string(wanted));
}

}  // namespace
}  // namespace crossdock::litmus

int main(int argc, char** argv) {
  try {
    return crossdock::litmus::run(argc, argv);
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "litmus: %s\n", error.what()), 2;
  }
}
