// SPDX-License-Identifier: Apache-2.0
// How `crossdock bench` asks a machine for times. One Measurer per machine; axes, tables and files know only this.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "machine/machine.hpp"
#include "problem/problem.hpp"

/* name, what is timed */
#define XD_BENCH_OPS(X)                            \
  X(dispatch, "dispatch alone")                    \
  X(combine, "combine alone, along one kept plan") \
  X(pair, "dispatch, then combine")                \
  X(replay, "dispatch alone, along one kept plan")

/* name, calls per replay, how calls reach the machine */
#define XD_BENCH_MODES(X)                                                  \
  X(graph, 20, "a replayed graph of 20 calls back to back, divided by 20") \
  X(graph1, 1, "a replayed graph of one call")                             \
  X(eager, 1, "the call itself")

namespace crossdock::tools {

#define XD_BENCH_ENUMERATOR(name, ...) name,
enum class Op { XD_BENCH_OPS(XD_BENCH_ENUMERATOR) };
enum class Mode { XD_BENCH_MODES(XD_BENCH_ENUMERATOR) };
#undef XD_BENCH_ENUMERATOR
#define XD_BENCH_NAME(name, ...) #name,
inline constexpr std::string_view kOpNames[] = {XD_BENCH_OPS(XD_BENCH_NAME)};
inline constexpr std::string_view kModeNames[] = {XD_BENCH_MODES(XD_BENCH_NAME)};
#undef XD_BENCH_NAME
#define XD_BENCH_CALLS(name, calls, ...) calls,
inline constexpr int kModeCalls[] = {XD_BENCH_MODES(XD_BENCH_CALLS)};
#undef XD_BENCH_CALLS

/// What an operation is made of.
constexpr bool dispatches(Op op) { return op != Op::combine; }
constexpr bool combines(Op op) { return op == Op::combine || op == Op::pair; }

/// One thing to time on an open bench.
struct Run {
  Op op = Op::pair;
  Mode mode = Mode::eager;
  CallOptions geometry;  // without a stream
  int repeat = 20;       // timed repetitions, after `warm_up` others
  int warm_up = 2;
};

struct Timing {
  std::vector<double> us;  // per call, of the slowest rank, one per repetition
  double limit_gbps = 0;   // what the machine can do at best per rank, measured between the repetitions
  double host_us = 0;      // eager: of one call on the thread that makes it, median; of the rank that takes longest
  LaunchInfo dispatch, combine;  // how rank 0 launched what was timed
  std::string wrong;             // empty, or how the result of the last repetition differs from the oracle
};

/// The ranks of one problem, ready to run.
class Bench {
 public:
  virtual ~Bench() = default;
  /// Why this cannot be timed, or an empty text.
  virtual std::string refuses(const Run& run) const = 0;
  virtual Timing time(const Run& run) = 0;
};

/// What figures are taken on, and how.
struct Basis {
  std::string host, driver;  // number and model of its processors, never a machine's name
  Mode usual_mode;
  std::string limit_name;  // what `limit_gbps` is
  bool limit_is_of_link;   // it is about what crosses between ranks; else about a rank's memory
};

class Measurer {
 public:
  explicit Measurer(Basis of) : basis(std::move(of)) {}
  virtual ~Measurer() = default;
  /// `expected` is the oracle's answer to combine. Both outlive the bench.
  virtual std::unique_ptr<Bench> open(const Data& data, const std::vector<oracle::RankResult>& expected) = 0;
  virtual std::vector<Limit> limits(int num_ranks) = 0;
  /// What ranks need to hear of one another, without any bytes; 0: not measured.
  virtual double signal_us(int num_ranks) = 0;
  /// Of bare copies in one pattern after the other: the busiest bytes of each, over the time of all. Each is measured once. 0: one
  /// is not measured.
  double patterns_gbps(const std::vector<Traffic>& patterns) {
    double bytes = 0, ns = 0;  // 1 GB/s is a byte per ns
    for (const Traffic& pattern : patterns) {
      const auto [known, is_new] = known_.try_emplace(pattern.amounts());
      if (is_new) known->second = pattern_gbps(pattern);
      if (known->second <= 0) return 0;
      bytes += static_cast<double>(pattern.busiest());
      ns += static_cast<double>(pattern.busiest()) / known->second;
    }
    return ns > 0 ? bytes / ns : 0;
  }

  const Basis basis;

 private:
  /// GB/s through the busier direction of the busiest rank, while all ranks copy to one another shares of these bytes and do
  /// nothing else; 0: nothing crosses, or not measured.
  virtual double pattern_gbps(const Traffic& bytes) = 0;

  std::map<std::vector<std::int64_t>, double> known_;
};

/// `copy_bytes`: source and destination of memcpy, all threads together; more than the caches hold.
std::unique_ptr<Measurer> make_cpu_measurer(std::int64_t copy_bytes);

/// The CPU's own way interleaves memcpy; GPUs, and the CPU where it is told so, are timed by marks in queues.
std::unique_ptr<Measurer> make_measurer(const std::vector<int>& devices, std::int64_t copy_bytes, bool by_queues);

/// Times by marks in the ranks' queues: the way of GPUs, and of any machine.
std::unique_ptr<Measurer> make_queue_measurer(std::shared_ptr<Machine> machine);

}  // namespace crossdock::tools
