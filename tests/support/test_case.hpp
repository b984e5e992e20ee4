// SPDX-License-Identifier: Apache-2.0
// Everything that names one run of dispatch and combine, as one line of text that reads back: a failure prints it, and
// CROSSDOCK_TEST_CASE='...' backend_tests --gtest_filter=Case.FromText runs it again.
#pragma once

#include <string>
#include <string_view>

#include "crossdock/config.hpp"
#include "oracle/inputs.hpp"

namespace crossdock::testing {

/// Who runs the kernel bodies. width 0: the library's own launches; 32 or 64: fibers, see fiber_launch.hpp.
struct Executor {
  int width = 0;
  int num_blocks = 1;
  int num_waiting_blocks = 0;  ///< of launches that wait; fewer than num_blocks: calls are made in steps. 0: num_blocks
  int num_threads = 64;
  int splits_per_row = 1;
  bool as_asked =
      false;  ///< as the library asks; num_blocks and num_threads are the most that fit, splits_per_row is not used
  bool push = false;       ///< zero-copy rows are pushed, though they could be pulled
  std::uint64_t seed = 0;  ///< order of fibers; 0: in turns
  bool operator==(const Executor&) const = default;
};

struct TestCase {
  Config config;
  int num_ranks = 2;
  oracle::Recipe recipe;
  BackendKind backend = BackendKind::cpu;
  Executor executor;
  bool topk_ids_are_int64 = false;
  bool device_tokens = false;         ///< T is read from device memory
  bool combine_topk_weights = false;  ///< ask for the second result of combine
  bool caller_weights = false;        ///< with rows of the caller's for it, not the dispatched ones
  bool in_place = false;  ///< staged, token_major, equal row bytes: expert outputs replace the received rows
  int rounds = 1;         ///< how often it is repeated, each time with another payload
};

/// A small case that every option may be changed from: 2 ranks, H 128, E 8, k 2, M 8, bf16.
TestCase small_case(int num_ranks = 2);

Path path_of(const Config& config);
void set_path(Config& config, Path path);

/// All members that differ from small_case(), "name=value" with blanks between.
std::string text_of(const TestCase& test);
/// The case of such a text. std::invalid_argument names what it does not understand.
TestCase case_of(std::string_view text);

/// The same case in the words of the oracle.
oracle::Case oracle_case(const TestCase& test);

}  // namespace crossdock::testing
