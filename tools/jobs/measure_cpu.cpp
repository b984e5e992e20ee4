// SPDX-License-Identifier: Apache-2.0
// Times of the CPU machine: ranks are threads, each with a stream of its own for graphs. Between two repetitions the same
// threads measure what memcpy gives, so that both figures see the same neighbours.
#include <chrono>
#include <memory>

#include "crossdock/cpu_stream.hpp"
#include "jobs/bench_rank.hpp"
#include "jobs/host_time.hpp"
#include "machine/copy_rate.hpp"
#include "ranks/rank_threads.hpp"

namespace crossdock::tools {
namespace {

using Clock = std::chrono::steady_clock;

/// Most bytes that memcpy moves between two repetitions, all threads together; fewer for small problems.
constexpr std::int64_t kCopyPiece = std::int64_t{256} << 20, kLeastCopyPiece = std::int64_t{1} << 20;
constexpr std::int64_t kRowBytes = 14336;

/// First start to last end over the ranks.
class SlowestRank {
 public:
  explicit SlowestRank(int num_ranks) : starts_(num_ranks), ends_(num_ranks) {}
  void start(int rank) { starts_[rank] = Clock::now(); }
  void end(int rank) { ends_[rank] = Clock::now(); }
  double us() const {
    const auto first = *std::min_element(starts_.begin(), starts_.end()),
               last = *std::max_element(ends_.begin(), ends_.end());
    return std::chrono::duration<double, std::micro>(last - first).count();
  }

 private:
  std::vector<Clock::time_point> starts_, ends_;
};

class CpuBench : public Bench {
 public:
  CpuBench(const Data& data, const std::vector<oracle::RankResult>& expected, std::vector<RowCopy>& copies)
      : data_(data),
        expected_(expected),
        threads_(data.problem.shape.num_ranks),
        ranks_(threads_.num_ranks()),
        clock_(threads_.num_ranks()),
        host_us_(threads_.num_ranks()),
        wrong_(threads_.num_ranks()),
        copies_(copies) {
    const ThreadTeam team(threads_.num_ranks());
    const std::int64_t payload = rows_received(data) * data.outputs.row_bytes();
    copy_piece_ = std::clamp(payload, kLeastCopyPiece, kCopyPiece) / threads_.num_ranks();
    threads_.run([&](int r) {
      ranks_[r] = std::make_unique<BenchRank>(data, team, r, *machine_);
      threads_.barrier().wait();
      ranks_[r]->finish_combine({});
    });
  }

  std::string refuses(const Run& run) const override { return BenchRank::refuses(data_.problem, run); }

  Timing time(const Run& run) override {
    Timing timing;
    copied_ = 0;
    copy_us_ = 0;
    threads_.run([&](int r) { repeat(run, r, timing.us); });
    for (const std::string& wrong : wrong_)
      if (timing.wrong.empty()) timing.wrong = wrong;
    timing.limit_gbps = copied_ / copy_us_ / 1e3 / threads_.num_ranks();
    if (run.mode == Mode::eager) timing.host_us = *std::max_element(host_us_.begin(), host_us_.end());
    timing.dispatch = ranks_[0]->dispatched();
    timing.combine = ranks_[0]->combined();
    return timing;
  }

 private:
  void repeat(const Run& run, int r, std::vector<double>& us) {
    BenchRank& rank = *ranks_[r];
    const int calls = kModeCalls[static_cast<int>(run.mode)];
    CallOptions options = run.geometry;
    CpuStream stream;
    CpuGraph graph;
    threads_.barrier().wait();
    rank.debug_fill();
    threads_.barrier().wait();
    if (run.mode != Mode::eager) {
      options.stream = stream.handle();
      stream.begin_capture();
      for (int i = 0; i < calls; ++i) rank.call(run.op, options);
      graph = stream.end_capture();
    }
    for (int i = -run.warm_up; i < run.repeat; ++i) {
      time_copy(r, i >= 0);
      if (rank.fused() && run.op == Op::combine) rank.start_dispatch({});
      threads_.barrier().wait();
      clock_.start(r);
      if (run.mode == Mode::eager) {
        rank.call(run.op, options);
      } else {
        stream.replay(graph);
        stream.synchronize();
      }
      clock_.end(r);
      threads_.barrier().wait();
      if (r == 0 && i >= 0) us.push_back(clock_.us() / calls);
    }
    if (run.mode == Mode::eager) {  // timed above in the calling thread, where a call waits for its peers
      options.stream = stream.handle();
      host_us_[r] = host_us(rank, run, options, [&] { stream.synchronize(); });
    }
    wrong_[r] = rank.judge(run.op, expected_[r]);
    threads_.barrier().wait();  // a rank that goes on may dispatch into rows that others still read
  }

  void time_copy(int r, bool counts) {
    threads_.barrier().wait();
    clock_.start(r);
    const std::int64_t bytes = copies_[r].copy(copy_piece_, data_.outputs.row_bytes());
    clock_.end(r);
    threads_.barrier().wait();
    if (r != 0 || !counts) return;
    copied_ += static_cast<double>(bytes) * threads_.num_ranks();
    copy_us_ += clock_.us();
  }

  const Data& data_;
  const std::vector<oracle::RankResult>& expected_;
  RankThreads threads_;
  std::vector<std::unique_ptr<BenchRank>> ranks_;
  std::shared_ptr<Machine> machine_ = open_machine(BackendKind::cpu);
  SlowestRank clock_;
  std::vector<double> host_us_;
  std::vector<std::string> wrong_;
  std::vector<RowCopy>& copies_;  // one per rank
  std::int64_t copy_piece_ = 0;   // bytes that each thread copies between two repetitions
  double copied_ = 0, copy_us_ = 0;
};

class CpuMeasurer : public Measurer {
 public:
  explicit CpuMeasurer(std::int64_t copy_bytes) : copy_bytes_(copy_bytes) {}

  std::string host() const override { return open_machine(BackendKind::cpu)->host(); }
  std::string driver() const override { return open_machine(BackendKind::cpu)->driver(); }
  Mode usual_mode() const override { return Mode::eager; }
  std::string limit_name() const override { return "memcpy by the same threads"; }
  bool limit_is_of_link() const override { return false; }
  std::unique_ptr<Bench> open(const Data& data, const std::vector<oracle::RankResult>& expected) override {
    const int num_ranks = data.problem.shape.num_ranks;
    return std::make_unique<CpuBench>(data, expected, copies_of(num_ranks));
  }
  std::vector<Limit> limits(int num_ranks) override;
  double pattern_gbps(const Traffic& bytes) override;
  double signal_us(int num_ranks) override;

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

/// Median time in which so many threads have all done copy(thread).
template <class Copy>
double copy_us(int num_threads, Copy copy) {
  constexpr int kRounds = 13, kWarmUp = 2;
  RankThreads threads(num_threads);
  SlowestRank clock(num_threads);
  std::vector<double> us;
  threads.run([&](int r) {
    for (int i = 0; i < kRounds; ++i) {
      threads.barrier().wait();
      clock.start(r);
      copy(r);
      clock.end(r);
      threads.barrier().wait();
      if (r == 0 && i >= kWarmUp) us.push_back(clock.us());
    }
  });
  std::nth_element(us.begin(), us.begin() + us.size() / 2, us.end());
  return us[us.size() / 2];
}

/// Median rate of memcpy by `copies.size()` threads.
double copy_rate(std::vector<RowCopy>& copies, std::int64_t row_bytes) {
  const int n = static_cast<int>(copies.size());
  std::vector<std::int64_t> copied(copies.size());
  const double us = copy_us(n, [&](int r) { copied[r] = copies[r].copy(kCopyPiece / n, row_bytes); });
  return static_cast<double>(copied[0]) * n / us / 1e3;
}

double CpuMeasurer::pattern_gbps(const Traffic& bytes) {
  if (bytes.busiest() == 0) return 0;
  const int n = bytes.num_ranks();
  std::vector<RowCopy>& copies = copies_of(n);
  const std::int64_t row_bytes = std::min(kRowBytes, bytes_of_copy(n) / n);
  const Traffic rows = bytes.scaled(std::clamp(bytes.busiest(), kLeastCopyPiece, kCopyPiece / n) / row_bytes);
  const double us = copy_us(n, [&](int r) {
    for (int to = 0; to < n; ++to) copies[r].copy_to(copies[to], r, n, rows.at(r, to), row_bytes);
  });
  return static_cast<double>(rows.busiest() * row_bytes) / us / 1e3;
}

/// A barrier of the ranks' threads.
double CpuMeasurer::signal_us(int num_ranks) {
  constexpr int kRounds = 1000;
  RankThreads threads(num_ranks);
  SlowestRank clock(num_ranks);
  threads.run([&](int r) {
    threads.barrier().wait();
    clock.start(r);
    for (int i = 0; i < kRounds; ++i) threads.barrier().wait();
    clock.end(r);
  });
  return clock.us() / kRounds;
}

std::vector<Limit> CpuMeasurer::limits(int num_ranks) {
  std::vector<Limit> limits;
  for (int n = 1; n <= num_ranks; n *= 2) {
    for (const std::int64_t row : {kRowBytes, std::int64_t{4} << 20})
      limits.push_back({"memcpy",
                        "memcpy, " + std::to_string(n) + (n == 1 ? " thread" : " threads") + ", rows of " +
                            std::to_string(row) + " bytes",
                        n, 0, static_cast<int>(row), copy_rate(copies_of(n), row)});
  }
  return limits;
}

}  // namespace

std::unique_ptr<Measurer> make_cpu_measurer(std::int64_t copy_bytes) {
  return std::make_unique<CpuMeasurer>(copy_bytes);
}

}  // namespace crossdock::tools
