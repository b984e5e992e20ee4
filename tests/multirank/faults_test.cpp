// SPDX-License-Identifier: Apache-2.0
// Processes that are killed, never come or come late, at each point of a round. Every survivor must name edge, peer and epochs
// in time, its device must work on, and the survivors must be able to form a new group. Prints a table of what was injected
// and what each survivor reported.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <thread>

#include "support/harness.hpp"
#include "support/processes.hpp"

namespace crossdock::testing {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kDeadline{1000};
constexpr std::chrono::milliseconds kHoldUp{300};
constexpr int kGoodRounds = 3;

/* name, what rank `victim` does; the call in which the others notice, the edge on which they wait for it in vain, the epochs
   that they then expect and have seen last: dispatches have odd ones, the first after the good rounds 7. A combine that waits has
   sent its own `ready`, so that it is missed in the dispatch behind it only. */
#define XD_FAULTS(X)                                                          \
  X(before_dispatch, "killed before it dispatches", dispatch, counts, 7, 5)   \
  X(during_dispatch, "killed while its dispatch waits", dispatch, done, 7, 5) \
  X(after_dispatch, "killed when its dispatch is done", combine, ready, 8, 6) \
  X(during_combine, "killed while its combine waits", dispatch, counts, 9, 7) \
  X(after_combine, "killed when its combine is done", dispatch, counts, 9, 7) \
  X(never_launches, "lives on and never dispatches", dispatch, counts, 7, 5)  \
  X(late, "dispatches 2 s late, the deadline is 1 s", dispatch, counts, 7, 5)
#define XD_NAME(name, ...) name,
enum class Fault { XD_FAULTS(XD_NAME) };
#undef XD_NAME

struct Expected {
  const char *text, *phase;
  Edge edge;
  int epoch_expected, epoch_seen;
};
#define XD_ROW(name, text, phase, edge, expected, seen) {text, #phase, Edge::edge, expected, seen},
constexpr Expected kExpected[] = {XD_FAULTS(XD_ROW)};
#undef XD_ROW
static_assert(kGoodRounds == 3, "kExpected counts the operations of three rounds");

/// Where processes share memory by a vendor's IPC handles, the death of an owner may break the devices that have its memory
/// mapped. Then that is told, and not a failure.
bool devices_may_break() {
  const char* share = std::getenv("CROSSDOCK_IPC");
  return share && std::string_view(share) == "ipc" && backend_of_tests() != BackendKind::cpu;
}

/// Longer than the deadline by this much, and no more. On the CPU other work of the machine is in the way.
std::chrono::milliseconds most_late() { return backend_of_tests() == BackendKind::cpu ? 2000ms : 100ms; }

TestCase fault_case(int ranks) {
  TestCase test = small_case(ranks);
  test.config.zero_copy = true;
  return test;
}

/// What one rank's process does and says.
class Survivor {
 public:
  Survivor(Fault fault, int victim, const TestCase& test, const Answers& answers, const std::string& name, int rank)
      : fault_(fault), test_(test), answers_(answers), name_(name), rank_(rank), victim_(victim) {
    use_device(test.backend, rank);
  }

  std::string run() {
    if (rank_ == victim_) return be_victim();
    const std::string report = be_survivor();
    try {
      return report + "; " + device_works() + "; " + regroup();
    } catch (const std::exception& error) {
      return report + "; DEVICE IS BROKEN: " + error.what();
    }
  }

 private:
  std::unique_ptr<Rank> make_rank() {
    auto rank = std::make_unique<Rank>(
        test_, Group::rendezvous(name_, rank_, test_.num_ranks, options_of(test_.backend, rank_)), log_);
    for (int n = 0; n < kGoodRounds; ++n) rank->run(answers_);
    rank->group.set_deadline(kDeadline);
    return rank;
  }

  /// Rank 0 comes a little late to the call in which the victim dies, so that the victim waits in it.
  void hold_up(Fault here) const {
    if (fault_ == here && rank_ == 0) std::this_thread::sleep_for(kHoldUp);
  }
  [[noreturn]] static void die() {
    ::kill(::getpid(), SIGKILL);
    for (;;) ::pause();
  }
  static void die_soon(std::chrono::milliseconds after) {
    std::thread([after] {
      std::this_thread::sleep_for(after);
      ::kill(::getpid(), SIGKILL);
    }).detach();
  }

  std::string be_victim() {
    const std::unique_ptr<Rank> rank = make_rank();
    if (fault_ == Fault::before_dispatch) die();
    if (fault_ == Fault::never_launches) {
      std::this_thread::sleep_for(2 * kDeadline);
      return "never launched, poll() says " + std::string(name_of(rank->exchange.poll().code));
    }
    if (fault_ == Fault::late) std::this_thread::sleep_for(2 * kDeadline);
    if (fault_ == Fault::during_dispatch) die_soon(100ms);
    Round round(test_, answers_, rank_);
    try {
      Received received = rank->exchange.dispatch(round.input());
      const CombineInput from = round.run_experts(received);
      if (fault_ == Fault::after_dispatch) die();
      if (fault_ == Fault::during_combine) die_soon(100ms);
      rank->combine(std::move(received), from, round.output());
      if (fault_ == Fault::after_combine) die();
    } catch (const Error& error) {
      return std::string("refused: ") + error.what();
    }
    return "went on: " + rank->exchange.poll().text;
  }

  std::string be_survivor() {
    const std::unique_ptr<Rank> rank = make_rank();
    for (int n = 0; n < 4; ++n) {
      Round round(test_, answers_, rank_);
      hold_up(Fault::during_dispatch);
      auto began = Clock::now();
      Received received = rank->exchange.dispatch(round.input());
      if (rank->exchange.poll().code != StatusCode::ok) return story("dispatch", *rank, began);
      const CombineInput from = round.run_experts(received);
      hold_up(Fault::during_combine);
      began = Clock::now();
      rank->combine(std::move(received), from, round.output());
      if (rank->exchange.poll().code != StatusCode::ok) return story("combine", *rank, began);
    }
    return "noticed nothing";
  }

  std::string story(const char* phase, Rank& rank, Clock::time_point began) {
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - began);
    const Status status = rank.exchange.poll();
    std::ostringstream text;
    text << name_of(status.code) << " in " << phase << ", edge " << name_of(status.edge) << ", peer " << status.peer
         << ", epoch " << status.epoch_expected << " expected, " << status.epoch_seen << " seen, after " << took.count()
         << " ms";
    const bool held_up =
        fault_ == Fault::during_dispatch || fault_ == Fault::during_combine;  // one wait for rank 0 before
    if (took > kDeadline + most_late() + (held_up ? kHoldUp : 0ms)) text << " (TOO LATE)";
    const std::string named = "rank " + std::to_string(victim_);
    if (status.text.find(named) == std::string::npos)
      text << " (THE TEXT NAMES NO " << named << ": " << status.text << ")";
    rank.exchange.close();
    rank.group.close();
    return text.str();
  }

  std::string device_works() const {
    std::vector<std::uint8_t> bytes(1 << 20, 0x5a), back(1 << 20);
    const Buffer buffer(test_.backend, bytes.size());
    copy_in(test_.backend, buffer.data(), bytes.data(), bytes.size());
    copy_out(test_.backend, back.data(), buffer.data(), back.size());
    return bytes == back ? "device works" : "DEVICE IS BROKEN";
  }

  /// The survivors close up: those behind the victim move to the device before theirs.
  std::string regroup() {
    const TestCase smaller = fault_case(test_.num_ranks - 1);
    const Answers answers = answers_of(smaller);
    const int place = rank_ - (rank_ > victim_);
    Log log;
    use_device(smaller.backend, place);
    Rank rank(smaller,
              Group::rendezvous(name_ + "-again", place, smaller.num_ranks, options_of(smaller.backend, place)), log);
    for (int n = 0; n < kGoodRounds; ++n) rank.run(answers);
    return log.empty() ? "new group runs" : "NEW GROUP FAILS: " + log.text();
  }

  const Fault fault_;
  const TestCase& test_;
  const Answers& answers_;
  const std::string name_;
  const int rank_, victim_;
  Log log_;
};

/// What a survivor must say, first of all; how long it took and what became of the rest comes behind it.
std::string message_of(Fault fault, int victim) {
  const Expected& expected = kExpected[static_cast<int>(fault)];
  std::ostringstream text;
  text << "peer_lost in " << expected.phase << ", edge " << name_of(expected.edge) << ", peer " << victim << ", epoch "
       << expected.epoch_expected << " expected, " << expected.epoch_seen << " seen, after ";
  return text.str();
}

void judge_survivor(Fault fault, int victim, const std::string& text) {
  EXPECT_EQ(text.rfind(message_of(fault, victim), 0), 0u) << text << "\n  must begin: " << message_of(fault, victim);
  for (const char* bad : {"TOO LATE", "NAMES NO"}) EXPECT_EQ(text.find(bad), std::string::npos) << text;
  if (devices_may_break()) return;
  EXPECT_NE(text.find("; device works; new group runs"), std::string::npos) << text;
  for (const char* bad : {"BROKEN", "FAILS", "exception"}) EXPECT_EQ(text.find(bad), std::string::npos) << text;
}

/// A victim that lives learns in its own call that the others have given it up; without a call it is told nothing.
void judge_victim(Fault fault, int victim, const ProcessReport& report) {
  const bool killed = fault != Fault::never_launches && fault != Fault::late;
  EXPECT_EQ(WIFSIGNALED(report.exit_status), killed) << report.text;
  if (fault == Fault::never_launches) {
    EXPECT_EQ(report.text, "never launched, poll() says ok");
  }
  if (fault != Fault::late) return;
  EXPECT_EQ(report.text.rfind("refused: ", 0), 0u) << report.text;
  const std::string named =
      "gave up waiting for rank " + std::to_string(victim) + " in dispatch, phase `wait_counts`, edge `counts`";
  EXPECT_NE(report.text.find(named), std::string::npos) << report.text;
}

void inject(Fault fault, int victim, const TestCase& test) {
  const RuntimeDir dir;
  const Answers answers = answers_of(test);
  const std::string name = unique_name();
  const auto reports =
      run_processes(test.num_ranks, [&](int r) { return Survivor(fault, victim, test, answers, name, r).run(); });
  for (int r = 0; r < test.num_ranks; ++r) {
    std::printf("| rank %d %-42s | rank %d: %s |\n", victim, kExpected[static_cast<int>(fault)].text, r,
                WIFSIGNALED(reports[r].exit_status) ? "killed" : reports[r].text.c_str());
    std::fflush(stdout);  // before the next test forks
    if (r == victim)
      judge_victim(fault, victim, reports[r]);
    else
      judge_survivor(fault, victim, reports[r].text);
  }
}

/// The last rank as the victim, then one in the middle. Rank 0 is needed alive: the victim waits for it.
void inject(Fault fault) {
  const TestCase test = fault_case(ranks_with_devices(kMaxRanks));
  const int last = test.num_ranks - 1, middle = test.num_ranks / 2;
  inject(fault, last, test);
  if (middle != last) inject(fault, middle, test);
}

TEST(Faults, KilledBeforeDispatch) { inject(Fault::before_dispatch); }
TEST(Faults, KilledDuringDispatch) { inject(Fault::during_dispatch); }
TEST(Faults, KilledAfterDispatch) { inject(Fault::after_dispatch); }
TEST(Faults, KilledDuringCombine) { inject(Fault::during_combine); }
TEST(Faults, KilledAfterCombine) { inject(Fault::after_combine); }
TEST(Faults, NeverLaunches) { inject(Fault::never_launches); }
TEST(Faults, TwoSecondsLate) { inject(Fault::late); }

}  // namespace
}  // namespace crossdock::testing
