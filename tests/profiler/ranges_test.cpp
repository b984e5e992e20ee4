// SPDX-License-Identifier: Apache-2.0
// A profiler sees ranges as they open and close; without one nobody is told anything. NVTX looks for a profiler once in a
// process, so each test asks in a child.
#include "platform/cuda/ranges.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "unit/processes.hpp"

namespace crossdock::platform::cuda {
namespace {

/// What the recorder was told in this process, if it was told anything.
std::string notes() {
  void* library = ::dlopen(CROSSDOCK_RECORDER, RTLD_NOW);
  if (library == nullptr) return "no recorder";
  return reinterpret_cast<const char* (*)()>(::dlsym(library, "crossdock_notes"))();
}

/// Opens a range in a range, as a call in a caller's step does, and one after both.
void open_and_close() {
  ranges::begin("step");
  ranges::begin("crossdock dispatch");
  ranges::end();
  ranges::end();
  ranges::begin("crossdock combine");
  ranges::end();
}

std::string verdict_of(const std::function<std::string()>& body) {
  return testing::Processes(1, [&](int) { return body(); }).verdicts().front();
}

TEST(Ranges, AProfilerSeesThemAsTheyOpenAndClose) {
  EXPECT_EQ(verdict_of([] {
              ::setenv("NVTX_INJECTION64_PATH", CROSSDOCK_RECORDER, 1);
              ranges::initialize();
              open_and_close();
              return notes();
            }),
            "attached; begin step; begin crossdock dispatch; end; end; begin crossdock combine; end; ");
}

TEST(Ranges, AProfilerIsLookedForBeforeTheFirstCallAndNeverInOne) {
  EXPECT_EQ(verdict_of([] {
              ::setenv("NVTX_INJECTION64_PATH", CROSSDOCK_RECORDER, 1);
              ranges::initialize();
              return notes();
            }),
            "attached; ");
  EXPECT_EQ(verdict_of([] {
              ::unsetenv("NVTX_INJECTION64_PATH");
              ranges::initialize();
              ::setenv("NVTX_INJECTION64_PATH", CROSSDOCK_RECORDER, 1);
              open_and_close();
              return notes();
            }),
            "");
}

TEST(Ranges, WithoutAProfilerNobodyIsTold) {
  EXPECT_EQ(verdict_of([] {
              ::unsetenv("NVTX_INJECTION64_PATH");
              ranges::initialize();
              open_and_close();
              return notes();
            }),
            "");
}

}  // namespace
}  // namespace crossdock::platform::cuda
