// SPDX-License-Identifier: Apache-2.0
// The ranks of a test: threads of a team, each with its group, exchange and buffers. The suites above know no machine.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "crossdock/crossdock.hpp"
#include "support/answers.hpp"
#include "support/rank_memory.hpp"
#include "support/stream.hpp"

namespace crossdock::testing {

/// Runs body(rank) in one thread per rank and waits for all. An exception is a line in the log, and so is an error that a
/// GPU's runtime still remembers in the end.
void run_threads(int num_ranks, Log& log, const std::function<void(int)>& body);

/// Leaves a scope, by an exception too, when all ranks have come to its end.
struct WhenAllAreThrough {
  std::atomic<int>& done;
  int all;
  ~WhenAllAreThrough();
};

/// Where experts may write their results; stays valid when combine has consumed the Received.
struct Targets {
  void* received_rows = nullptr;
  void* combine_buffer = nullptr;       ///< zero-copy
  void* combine_slots[kMaxRanks] = {};  ///< fused
};
Targets targets_of(const Received& received, const TestCase& test);

/// One rank's buffers for one dispatch and the combine behind it.
class Round {
 public:
  /// Buffers of exactly the size of `answers`; `roomy`: of M tokens and all rows, so that load() may change T.
  Round(const TestCase& test, const Answers& answers, int rank, bool roomy = false);

  DispatchInput input() const;
  /// The same without what a replay does not read.
  DispatchInput payload() const;
  /// Puts the contents of `answers` (which must live until the stream has got there) into the buffers.
  void load(const Answers& answers, StreamHandle stream = nullptr);
  /// Plays the experts: writes the rows of combine where the path wants them. Waits for nothing.
  CombineInput run_experts(const Targets& targets, StreamHandle stream = nullptr);
  CombineInput run_experts(const Received& received, StreamHandle stream = nullptr) {
    return run_experts(targets_of(received, test_), stream);
  }
  /// What run_experts() returns, without the writing.
  CombineInput combine_input(const Targets& targets) const;
  CombineOutput output() const;
  /// Overwrites what combine will write.
  void spoil_output(StreamHandle stream = nullptr);
  void check(const View& view, Log& log) const { check_received(test_, *answers_, rank_, view, log); }
  void check_output(Log& log) const;

 private:
  void write_landings(const Targets& targets, StreamHandle stream) const;

  const TestCase& test_;
  const Answers* answers_;
  const int rank_;
  bool roomy_;
  Buffer rows_, ids_, weights_, scales_, num_tokens_;  // of dispatch
  Buffer outputs_, output_weights_;                    // of the experts
  Buffer result_, result_weights_;
  std::vector<std::uint8_t> spoil_;
};

/// Where rank `rank` of a test lives.
GroupOptions options_of(BackendKind backend, int rank, std::chrono::milliseconds deadline = kPatience);

/// One rank with its group and exchange. Making one is collective; it checks the bill.
class Rank {
 public:
  Rank(const TestCase& test, Group group, Log& log);
  Rank(const TestCase& test, const ThreadTeam& team, int rank, Log& log,
       std::chrono::milliseconds deadline = kPatience);

  int rank() const { return group.rank(); }
  /// dispatch, check, experts, combine, check.
  void run(const Answers& answers, StreamHandle stream = nullptr);
  /// dispatch, experts, combine; the plan and the rows, for more combines along it.
  struct Kept {
    Plan plan;
    CombineInput rows;
  };
  Kept run_and_keep(Round& round);
  /// After a dispatch: poll() must report what `answers` entail (bad ids, overflow, a clamped T), and is then cleared.
  void settle_reports(const Answers& answers);
  void combine(Received&& received, const CombineInput& input, const CombineOutput& output,
               StreamHandle stream = nullptr);

  const TestCase& test;
  Log& log;
  Group group;
  Exchange exchange;
};

/// Enqueues a dispatch, its experts and a combine behind `all_gone`, destroys the rank, arrives there, and checks what its
/// calls then bring.
void leave_under_way(std::unique_ptr<Rank> rank, const Answers& answers, Gate& all_gone);

/// Runs body(rank) for every rank of `test` in threads of a team. A rank that throws aborts the group, so that the
/// others do not wait for it.
void run_ranks(const TestCase& test, Log& log, const std::function<void(Rank&)>& body);

/// All rounds of a case. Empty if all is well, else what went wrong and the case as text.
std::string run_case(const TestCase& test);

}  // namespace crossdock::testing
