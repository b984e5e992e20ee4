// SPDX-License-Identifier: Apache-2.0
// Times by marks in the ranks' queues: a rank's time is what lies between its marks, a repetition's that of the slowest
// rank. Before the first mark every rank makes one call that is not timed, so that all of them begin together.
#include <algorithm>
#include <array>

#include "jobs/bench_rank.hpp"
#include "jobs/host_time.hpp"
#include "ranks/rank_threads.hpp"

namespace crossdock::tools {
namespace {

/// Repetitions end before `repeat` when so much time has passed, but never below the second.
constexpr double kMaxUs = 8e6;
constexpr int kFewestRepeats = 20;

class QueueBench : public Bench {
 public:
  QueueBench(const Data& data, const std::vector<oracle::RankResult>& expected, Machine& machine, double limit_gbps)
      : data_(data),
        expected_(expected),
        machine_(machine),
        limit_gbps_(limit_gbps),
        threads_(data.problem.shape.num_ranks),
        ranks_(threads_.num_ranks()),
        us_(threads_.num_ranks()),
        host_us_(threads_.num_ranks()),
        wrong_(threads_.num_ranks()) {
    const ThreadTeam team(threads_.num_ranks());
    threads_.run([&](int r) {
      ranks_[r] = std::make_unique<BenchRank>(data, team, r, machine_);
      threads_.barrier().wait();
      const std::unique_ptr<Queue> queue = machine_.make_queue();
      CallOptions options;
      options.stream = queue->handle();
      ranks_[r]->finish_combine(options);
      queue->synchronize();
    });
  }

  ~QueueBench() override {
    try {
      threads_.run([&](int r) {
        machine_.use(r);
        ranks_[r].reset();
      });
    } catch (...) {
    }
  }

  std::string refuses(const Run& run) const override { return BenchRank::refuses(data_.problem, run); }

  Timing time(const Run& run) override {
    Timing timing;
    spent_us_ = 0;
    stop_ = false;
    threads_.run([&](int r) { repeat(run, r, timing.us); });
    for (const std::string& wrong : wrong_)
      if (timing.wrong.empty()) timing.wrong = wrong;
    timing.limit_gbps = limit_gbps_;
    if (run.mode == Mode::eager) timing.host_us = *std::max_element(host_us_.begin(), host_us_.end());
    timing.dispatch = ranks_[0]->dispatched();
    timing.combine = ranks_[0]->combined();
    return timing;
  }

 private:
  /// One repetition of one rank, in µs of its queue.
  double once(const Run& run, BenchRank& rank, Queue& queue, const CallOptions& options) {
    const bool needs_dispatch = rank.fused() && run.op == Op::combine;
    if (needs_dispatch)
      rank.start_dispatch(options);
    else
      rank.call(run.op, options);
    queue.mark(0);
    run.mode == Mode::eager ? rank.call(run.op, options) : queue.replay();
    queue.mark(1);
    queue.synchronize();
    return queue.us_between(0, 1);
  }

  void repeat(const Run& run, int r, std::vector<double>& us) {
    machine_.use(r);
    BenchRank& rank = *ranks_[r];
    const int calls = kModeCalls[static_cast<int>(run.mode)];
    const std::unique_ptr<Queue> queue = machine_.make_queue();
    CallOptions options = run.geometry;
    options.stream = queue->handle();
    rank.debug_fill();
    threads_.barrier().wait();
    if (run.mode != Mode::eager) {
      queue->begin_capture();
      for (int i = 0; i < calls; ++i) rank.call(run.op, options);
      queue->end_capture();
    }
    for (int i = -run.warm_up; i < run.repeat && !stop_; ++i) {
      threads_.barrier().wait();
      us_[r] = once(run, rank, *queue, options);
      threads_.barrier().wait();
      if (r == 0) note(run, i, *std::max_element(us_.begin(), us_.end()), calls, us);
      threads_.barrier().wait();
    }
    if (run.mode == Mode::eager) host_us_[r] = host_us(rank, run, options, [&] { queue->synchronize(); });
    wrong_[r] = rank.judge_in_place(run.op, expected_[r]);
    threads_.barrier().wait();  // a rank that goes on may dispatch into rows that others still read
  }

  void note(const Run& run, int i, double slowest_us, int calls, std::vector<double>& us) {
    spent_us_ += slowest_us;
    if (i >= 0) us.push_back(slowest_us / calls);
    stop_ = spent_us_ > kMaxUs && i + 1 >= std::min(kFewestRepeats, run.repeat);
  }

  const Data& data_;
  const std::vector<oracle::RankResult>& expected_;
  Machine& machine_;
  const double limit_gbps_;
  RankThreads threads_;
  std::vector<std::unique_ptr<BenchRank>> ranks_;
  std::vector<double> us_, host_us_;
  std::vector<std::string> wrong_;
  double spent_us_ = 0;
  bool stop_ = false;
};

class QueueMeasurer : public Measurer {
 public:
  explicit QueueMeasurer(std::shared_ptr<Machine> machine) : machine_(std::move(machine)) {}
  std::string host() const override { return machine_->host(); }
  std::string driver() const override { return machine_->driver(); }
  Mode usual_mode() const override { return Mode::graph; }
  std::string limit_name() const override { return "the best push to all peers in turn, all devices at once"; }
  bool limit_is_of_link() const override { return true; }
  std::unique_ptr<Bench> open(const Data& data, const std::vector<oracle::RankResult>& expected) override {
    return std::make_unique<QueueBench>(data, expected, *machine_, machine_->link_gbps(data.problem.shape.num_ranks));
  }
  std::vector<Limit> limits(int num_ranks) override { return machine_->limits(num_ranks); }
  double pattern_gbps(const Traffic& bytes) override { return machine_->pattern_gbps(bytes); }
  double signal_us(int num_ranks) override { return machine_->signal_us(num_ranks); }

 private:
  std::shared_ptr<Machine> machine_;
};

}  // namespace

std::unique_ptr<Measurer> make_queue_measurer(std::shared_ptr<Machine> machine) {
  return std::make_unique<QueueMeasurer>(std::move(machine));
}

std::unique_ptr<Measurer> make_measurer(const std::vector<int>& devices, std::int64_t copy_bytes, bool by_queues) {
  const BackendKind backend = backend_of_verbs();
  if (backend == BackendKind::cpu && !by_queues) return make_cpu_measurer(copy_bytes);
  return make_queue_measurer(open_machine(backend, devices));
}

}  // namespace crossdock::tools
