// SPDX-License-Identifier: Apache-2.0
// Results do not depend on the floating-point mode of the thread that makes a call, and the call leaves that mode alone.
#include <gtest/gtest.h>

#include <cfenv>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "support/harness.hpp"

namespace crossdock::testing {
namespace {

/// Rounds upward and flushes subnormals to zero.
void set_odd_mode() {
  std::fesetround(FE_UPWARD);
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
}
bool is_odd_mode() {
#if defined(__x86_64__)
  if ((_mm_getcsr() & 0x8040) != 0x8040) return false;
#endif
  return std::fegetround() == FE_UPWARD;
}

TEST(FloatMode, OfTheCallerDoesNotMatter) {
  for (const CombineQuant quant : {CombineQuant::none, CombineQuant::fp8_direct_cast})
    for (const Layout layout : {Layout::token_major, Layout::contiguous}) {
      TestCase test = small_case(2);
      test.config.layout = layout;
      test.config.combine_quant = quant;
      test.config.combine_topk_weights = test.combine_topk_weights = true;
      test.recipe.fill = oracle::Fill::edges;  // subnormals, and sums that round
      const Answers answers = answers_of(test);
      Log log;
      run_ranks(test, log, [&](Rank& rank) {
        std::fenv_t before;
        std::fegetenv(&before);
        if (rank.rank() == 1) set_odd_mode();
        rank.run(answers);
        if (rank.rank() == 1 && !is_odd_mode()) log.add("a call has changed the mode of its thread");
        std::fesetenv(&before);
      });
      EXPECT_EQ(log.text(), "");
    }
}

}  // namespace
}  // namespace crossdock::testing
