// SPDX-License-Identifier: Apache-2.0
// Times of the ranks of a bench. How a repetition is timed is up to the classes that inherit.
#pragma once

#include <algorithm>
#include <limits>

#include "jobs/bench_ranks.hpp"
#include "machine/times.hpp"

namespace crossdock::tools {

class ThreadBench : public Bench {
 public:
  /// Repetitions end before they are as many as asked for when they have taken `most_us`, but never below kFewestRepeats.
  ThreadBench(const Data& data, const std::vector<oracle::RankResult>& expected, std::shared_ptr<Machine> machine,
              double most_us = std::numeric_limits<double>::infinity())
      : data_(data),
        most_us_(most_us),
        ranks_(data, expected, std::move(machine)),
        us_(static_cast<std::size_t>(num_ranks())),
        host_us_(us_.size()) {}

  std::string refuses(const Run& run) const override { return BenchRank::refuses(data_.problem, run); }

  Timing time(const Run& run) override {
    Timing timing;
    spent_us_ = 0;
    stop_ = false;
    timing.wrong = ranks_.run(run.op, [&](int r, BenchRank&, Queue& queue) { repeat(run, r, queue, timing.us); });
    timing.limit_gbps = limit_gbps();
    if (run.mode == Mode::eager) timing.host_us = *std::max_element(host_us_.begin(), host_us_.end());
    timing.dispatch = rank(0).dispatched();
    timing.combine = rank(0).combined();
    return timing;
  }

 protected:
  /// One repetition of one rank, µs. `options` have a stream unless calls are timed in the calling thread.
  virtual double repeat_us(const Run& run, int rank, Queue& queue, const CallOptions& options, bool counts) = 0;
  /// GB/s that the machine can do at best per rank, after the repetitions of time().
  virtual double limit_gbps() const = 0;
  /// Whether an eager call is timed in its queue, else in the calling thread.
  virtual bool times_in_queue() const = 0;

  void sync() { ranks_.sync(); }
  int num_ranks() const { return ranks_.num_ranks(); }
  BenchRank& rank(int r) { return ranks_[r]; }
  const Data& data() const { return data_; }

 private:
  static constexpr int kFewestRepeats = 20;

  void repeat(const Run& run, int r, Queue& queue, std::vector<double>& us) {
    CallOptions options = run.geometry;
    if (run.mode != Mode::eager || times_in_queue()) options.stream = queue.handle();
    if (run.mode != Mode::eager) {
      queue.begin_capture();
      for (int i = 0; i < kModeCalls[static_cast<int>(run.mode)]; ++i) rank(r).call(run.op, options);
      queue.end_capture();
    }
    for (int i = -run.warm_up; i < run.repeat && !stop_; ++i) {
      sync();
      us_[r] = repeat_us(run, r, queue, options, i >= 0);
      sync();
      if (r == 0) note(run, i, us);
      sync();
    }
    if (run.mode == Mode::eager) host_us_[r] = host_us(run, r, queue);
  }

  /// The slowest rank's time.
  void note(const Run& run, int i, std::vector<double>& us) {
    const double slowest_us = *std::max_element(us_.begin(), us_.end());
    spent_us_ += slowest_us;
    if (i >= 0) us.push_back(slowest_us / kModeCalls[static_cast<int>(run.mode)]);
    stop_ = spent_us_ > most_us_ && i + 1 >= std::min(kFewestRepeats, run.repeat);
  }

  /// What an eager call costs the thread that makes it, whatever the queue does meanwhile: median. Few are under way at a time, so
  /// that none waits for room in the queue. A dispatch includes letting go of the rows of the one before.
  double host_us(const Run& run, int r, Queue& queue) {
    constexpr int kAtOnce = 4, kFewest = 100;
    CallOptions options = run.geometry;
    options.stream = queue.handle();
    std::vector<double> us;
    while (static_cast<int>(us.size()) < std::max(kFewest, kAtOnce * run.repeat)) {
      for (int i = 0; i < kAtOnce; ++i) {
        if (rank(r).fused() && run.op == Op::combine) rank(r).start_dispatch(options);
        const auto began = SteadyClock::now();
        rank(r).call(run.op, options);
        us.push_back(us_since(began));
      }
      queue.synchronize();
    }
    return median(us);
  }

  const Data& data_;
  const double most_us_;
  BenchRanks ranks_;
  std::vector<double> us_, host_us_;  // of each rank
  double spent_us_ = 0;
  bool stop_ = false;
};

}  // namespace crossdock::tools
