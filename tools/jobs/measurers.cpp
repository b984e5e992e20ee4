// SPDX-License-Identifier: Apache-2.0
// Two ways to time the ranks of a bench.
//
// The CPU's: in the calling thread, from the first rank that begins to the last that ends. Between two repetitions the same
// threads measure what memcpy gives, so that both figures see the same neighbours.
//
// By queues: a rank's time is what lies between marks in its queue, a repetition's that of the slowest rank. Before the first mark
// every rank makes one call that is not timed, so that all of them begin together.
#include <fmt/format.h>

#include <algorithm>

#include "jobs/thread_bench.hpp"
#include "machine/copy_rate.hpp"
#include "machine/times.hpp"

namespace crossdock::tools {
namespace {

/// Most bytes that memcpy moves between two repetitions, all threads together; fewer for small problems.
constexpr std::int64_t kCopyPiece = std::int64_t{256} << 20, kLeastCopyPiece = std::int64_t{1} << 20;
constexpr std::int64_t kRowBytes = 14336;
constexpr int kRounds = 11;

class CpuBench : public ThreadBench {
 public:
  CpuBench(const Data& data, const std::vector<oracle::RankResult>& expected, std::vector<RowCopy>& copies)
      : ThreadBench(data, expected, open_machine(BackendKind::cpu)),
        spans_(static_cast<std::size_t>(num_ranks())),
        copies_(copies) {
    const std::int64_t payload = rows_received(data) * data.outputs.row_bytes();
    copy_piece_ = std::clamp(payload, kLeastCopyPiece, kCopyPiece) / num_ranks();
  }
  Timing time(const Run& run) override {
    copied_ = copy_us_ = 0;
    return ThreadBench::time(run);
  }

 private:
  double repeat_us(const Run& run, int r, Queue& queue, const CallOptions& options, bool counts) override {
    time_copy(r, counts);
    if (rank(r).fused() && run.op == Op::combine) rank(r).start_dispatch({});
    sync();
    spans_[r].begin = SteadyClock::now();
    if (run.mode == Mode::eager) {
      rank(r).call(run.op, options);
    } else {
      queue.replay();
      queue.synchronize();
    }
    spans_[r].end = SteadyClock::now();
    sync();
    return us_of(spans_);
  }
  double limit_gbps() const override { return copied_ / copy_us_ / 1e3 / num_ranks(); }
  bool times_in_queue() const override { return false; }  // a call waits for its peers in the calling thread

  void time_copy(int r, bool counts) {
    spans_[r].begin = SteadyClock::now();
    const std::int64_t bytes = copies_[r].copy(copy_piece_, data().outputs.row_bytes());
    spans_[r].end = SteadyClock::now();
    sync();
    if (r != 0 || !counts) return;
    copied_ += static_cast<double>(bytes) * num_ranks();
    copy_us_ += us_of(spans_);
  }

  std::vector<Span> spans_;       // of each rank, what was timed last
  std::vector<RowCopy>& copies_;  // one per rank
  std::int64_t copy_piece_ = 0;   // bytes that each thread copies between two repetitions
  double copied_ = 0, copy_us_ = 0;
};

/// Median time in which so many threads have all done work(thread).
template <class Work>
double us_of_all(int num_threads, int rounds, Work work) {
  constexpr int kWarmUp = 2;
  RankThreads threads(num_threads);
  std::vector<Span> spans(static_cast<std::size_t>(num_threads));
  std::vector<double> us;
  threads.run([&](int r) {
    for (int i = -kWarmUp; i < rounds; ++i) {
      threads.sync();
      spans[r].begin = SteadyClock::now();
      work(r, threads);
      spans[r].end = SteadyClock::now();
      threads.sync();
      if (r == 0 && i >= 0) us.push_back(us_of(spans));
    }
  });
  return median(us);
}

/// Median rate of memcpy by `copies.size()` threads.
double copy_rate(std::vector<RowCopy>& copies, std::int64_t row_bytes) {
  const int n = static_cast<int>(copies.size());
  std::vector<std::int64_t> copied(copies.size());
  const double us =
      us_of_all(n, kRounds, [&](int r, RankThreads&) { copied[r] = copies[r].copy(kCopyPiece / n, row_bytes); });
  return static_cast<double>(copied[0]) * n / us / 1e3;
}

class CpuMeasurer : public Measurer {
 public:
  CpuMeasurer(const Machine& cpu, std::int64_t copy_bytes)
      : Measurer({cpu.host(), cpu.driver(), Mode::eager, "memcpy by the same threads", false}),
        copy_bytes_(copy_bytes) {}
  std::unique_ptr<Bench> open(const Data& data, const std::vector<oracle::RankResult>& expected) override {
    const int num_ranks = data.problem.shape.num_ranks;
    return std::make_unique<CpuBench>(data, expected, copies_of(num_ranks));
  }
  std::vector<Limit> limits(int num_ranks) override {
    std::vector<Limit> limits;
    for (int n = 1; n <= num_ranks; n *= 2) {
      for (const std::int64_t row : {kRowBytes, std::int64_t{4} << 20})
        limits.push_back({"memcpy", fmt::format("memcpy, {} thread{}, rows of {} bytes", n, n == 1 ? "" : "s", row), n,
                          0, static_cast<int>(row), copy_rate(copies_of(n), row)});
    }
    return limits;
  }
  double pattern_gbps(const Traffic& bytes) override {
    if (bytes.busiest() == 0) return 0;
    const int n = bytes.num_ranks();
    std::vector<RowCopy>& copies = copies_of(n);
    const std::int64_t row_bytes = std::min(kRowBytes, bytes_of_copy(n) / n);
    const Traffic rows = bytes.scaled(std::clamp(bytes.busiest(), kLeastCopyPiece, kCopyPiece / n) / row_bytes);
    const double us = us_of_all(n, kRounds, [&](int r, RankThreads&) {
      for (int to = 0; to < n; ++to) copies[r].copy_to(copies[to], r, n, rows.at(r, to), row_bytes);
    });
    return static_cast<double>(rows.busiest() * row_bytes) / us / 1e3;
  }
  /// A barrier of the ranks' threads.
  double signal_us(int num_ranks) override {
    constexpr int kBarriers = 1000;
    return us_of_all(num_ranks, 1,
                     [](int, RankThreads& threads) {
                       for (int i = 0; i < kBarriers; ++i) threads.sync();
                     }) /
           kBarriers;
  }

 private:
  std::int64_t bytes_of_copy(int num_threads) const { return copy_bytes_ / 2 / num_threads; }
  /// Buffers of memcpy for so many threads; the last ones are freed before others are made.
  std::vector<RowCopy>& copies_of(int num_threads) {
    if (static_cast<int>(copies_.size()) == num_threads) return copies_;
    copies_.clear();
    for (int i = 0; i < num_threads; ++i) copies_.emplace_back(bytes_of_copy(num_threads));
    return copies_;
  }

  std::int64_t copy_bytes_;  // of all threads, source and destination
  std::vector<RowCopy> copies_;
};

constexpr double kMostUs = 8e6;

class QueueBench : public ThreadBench {
 public:
  QueueBench(const Data& data, const std::vector<oracle::RankResult>& expected, std::shared_ptr<Machine> machine,
             double limit_gbps)
      : ThreadBench(data, expected, std::move(machine), kMostUs), limit_gbps_(limit_gbps) {}

 private:
  double repeat_us(const Run& run, int r, Queue& queue, const CallOptions& options, bool) override {
    if (rank(r).fused() && run.op == Op::combine)
      rank(r).start_dispatch(options);
    else
      rank(r).call(run.op, options);
    queue.mark(0);
    run.mode == Mode::eager ? rank(r).call(run.op, options) : queue.replay();
    queue.mark(1);
    queue.synchronize();
    return queue.us_between(0, 1);
  }
  double limit_gbps() const override { return limit_gbps_; }
  bool times_in_queue() const override { return true; }

  const double limit_gbps_;
};

class QueueMeasurer : public Measurer {
 public:
  explicit QueueMeasurer(std::shared_ptr<Machine> machine)
      : Measurer({machine->host(), machine->driver(), Mode::graph,
                  "the best push to all peers in turn, all devices at once", true}),
        machine_(std::move(machine)) {}
  std::unique_ptr<Bench> open(const Data& data, const std::vector<oracle::RankResult>& expected) override {
    return std::make_unique<QueueBench>(data, expected, machine_, machine_->link_gbps(data.problem.shape.num_ranks));
  }
  std::vector<Limit> limits(int num_ranks) override { return machine_->limits(num_ranks); }
  double pattern_gbps(const Traffic& bytes) override { return machine_->pattern_gbps(bytes); }
  double signal_us(int num_ranks) override { return machine_->signal_us(num_ranks); }

 private:
  std::shared_ptr<Machine> machine_;
};

}  // namespace

std::unique_ptr<Measurer> make_cpu_measurer(std::int64_t copy_bytes) {
  return std::make_unique<CpuMeasurer>(*open_machine(BackendKind::cpu), copy_bytes);
}

std::unique_ptr<Measurer> make_queue_measurer(std::shared_ptr<Machine> machine) {
  return std::make_unique<QueueMeasurer>(std::move(machine));
}

std::unique_ptr<Measurer> make_measurer(const std::vector<int>& devices, std::int64_t copy_bytes, bool by_queues) {
  const BackendKind backend = backend_of_verbs();
  if (backend == BackendKind::cpu && !by_queues) return make_cpu_measurer(copy_bytes);
  return make_queue_measurer(open_machine(backend, devices));
}

}  // namespace crossdock::tools
