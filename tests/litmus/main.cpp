// SPDX-License-Identifier: Apache-2.0
// A loop as in the kernels must never find a row out of order. One that is weakened should; where the hardware hides it, that is
// noted.
#include <charconv>
#include <cstdlib>
#include <exception>
#include <string_view>

#include "litmus/main.hpp"

namespace crossdock::litmus {
namespace {

constexpr const char* kUsage =
    "usage: litmus [--rounds N] [--channels N]\n"
    "  --rounds    rounds of each loop and direction, all channels together\n"
    "  --channels  loops side by side\n"
    "CROSSDOCK_BACKEND chooses between cuda and hip where a build has both. Exit status 1: a loop went wrong.\n";

/// The number behind the flag argv[i].
template <class T>
T number_behind(int argc, char** argv, int i) {
  const std::string_view text = i + 1 < argc ? argv[i + 1] : "";
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size())
    throw std::runtime_error(std::string(argv[i]) + " needs a number, not `" + std::string(text) + "`");
  return number;
}

Options options_of(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view flag = argv[i];
    if (flag == "--rounds")
      options.rounds = number_behind<long>(argc, argv, i);
    else if (flag == "--channels")
      options.channels = number_behind<int>(argc, argv, i);
    else
      throw std::runtime_error("there is no `" + std::string(flag) + "`\n" + kUsage);
  }
  if (options.rounds < 1 || options.channels < 1 || options.channels > kChannels)
    throw std::runtime_error("--rounds must be positive, --channels 1 to " + std::to_string(kChannels));
  return options;
}

int run(int argc, char** argv) {
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]) == "--help") return std::fputs(kUsage, stdout), 0;
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
