// SPDX-License-Identifier: Apache-2.0
// Runs every loop of patterns.hpp between every two devices of one vendor, in both directions; where there is one, between
// two streams of it.
#pragma once

#include <algorithm>
#include <cstdio>
#include <vector>

#include "gpu/runtime.hpp"
#include "litmus/patterns.hpp"

namespace crossdock::litmus {

struct Options {
  long rounds = 1'000'000;  // of each loop and direction, all channels together
  int channels = kChannels;
  int rounds_of_channel() const { return static_cast<int>((rounds + channels - 1) / channels); }
};

inline constexpr int kRoundsOfGraph = 50;

#define XD_NAME(name, ...) #name,
inline constexpr const char* kShapeNames[] = {XD_SHAPES(XD_NAME)};
inline constexpr const char* kWeakeningNames[] = {XD_WEAKENINGS(XD_NAME)};
#undef XD_NAME
#define XD_ROW(edge, shape, weakening) {Edge::edge, Shape::shape, Weakening::weakening},
inline constexpr Litmus kAll[] = {XD_LITMUS(XD_ROW)};
#undef XD_ROW

/// `kLaunch(blocks, stream, loop)` starts the kernel and returns the runtime's error.
template <class R, auto kLaunch>
class Device {
 public:
  Device(int ordinal, int count) : ordinal_(ordinal) {
    use();
    for (int other = 0; other < count; ++other)
      if (other != ordinal) check(R::DeviceEnablePeerAccess(other, 0), "peer access");
    make(side_.words, kChannels * kWords * 16);
    make(side_.rows, kChannels * kUnits * 4);
    make(side_.arrivals, kChannels);
    make(side_.found, 1);
    make(stuck_, 1);
    check(R::StreamCreateWithFlags(&stream_, R::kNonBlocking), "a stream");
  }
  int ordinal() const { return ordinal_; }

  void clear() const {
    use();
    zero(side_.words, kChannels * kWords * 16);
    zero(side_.rows, kChannels * kUnits * 4);
    zero(side_.arrivals, kChannels);
    zero(side_.found, 1);
    zero(stuck_, 1);
    check(R::DeviceSynchronize(), "clearing");
  }
  /// One kernel for all rounds.
  void launch(const Litmus& litmus, bool is_a, const Device& other, const Options& options) const {
    use();
    const int parts = is_a && litmus.shape == Shape::push ? 2 : 1;
    const Loop loop{litmus, side_, other.side_, stuck_, options.rounds_of_channel(), 0, is_a};
    check(kLaunch(options.channels * parts, stream_, &loop), "launching a loop");
  }
  /// A graph of `rounds` rounds, of one or more kernels each.
  typename R::GraphExec capture(const Litmus& litmus, bool is_a, const Device& other, const Options& options,
                                int rounds) const {
    use();
    typename R::Graph graph = nullptr;
    typename R::GraphExec exec = nullptr;
    check(R::StreamBeginCapture(stream_, R::kCaptureMode), "beginning a graph");
    for (int i = 0; i < rounds; ++i)
      for (int kernel = 0; kernel < kernels_of(litmus.shape, is_a); ++kernel) {
        const Loop loop{litmus, side_, other.side_, stuck_, rounds, kernel, is_a};
        check(kLaunch(options.channels, stream_, &loop), "capturing a kernel");
      }
    check(R::StreamEndCapture(stream_, &graph), "ending a graph");
    check(R::GraphInstantiateWithFlags(&exec, graph, 0), "making a graph");
    check(R::GraphDestroy(graph), "releasing what was captured");
    return exec;
  }
  void replay(typename R::GraphExec exec) const {
    use();
    check(R::GraphLaunch(exec, stream_), "replaying a graph");
  }
  void release(typename R::GraphExec exec) const {
    check(R::StreamSynchronize(stream_), "a graph");
    check(R::GraphExecDestroy(exec), "releasing a graph");
  }
  Found finish() const {
    Found found{};
    check(R::StreamSynchronize(stream_), "a loop");
    check(R::MemcpyAsync(&found, side_.found, sizeof found, R::kCopy, stream_), "reading what was found");
    check(R::StreamSynchronize(stream_), "reading what was found");
    return found;
  }

 private:
  static void check(typename R::Error error, const char* what) { tools::gpu::check<R>(error, what); }
  void use() const { check(R::SetDevice(ordinal_), "choosing a device"); }
  template <class T>
  static void make(T*& data, std::size_t count) {
    check(R::malloc_for_peers(reinterpret_cast<void**>(&data), count * sizeof(T)), "memory");
  }
  template <class T>
  void zero(T* data, std::size_t count) const {
    check(R::MemsetAsync(data, 0, count * sizeof(T), stream_), "clearing");
  }

  int ordinal_;
  Side side_{};
  std::uint64_t* stuck_ = nullptr;
  typename R::Stream stream_ = nullptr;  // all of it lives as long as the program
};

/// Runs a loop between two devices to its end.
template <class D>
void run_between(const Litmus& litmus, const D& a, const D& b, const Options& options) {
  a.clear(), b.clear();
  if (!has_later(litmus.shape)) return a.launch(litmus, true, b, options), b.launch(litmus, false, a, options);
  const int of_graph = options.rounds_of_channel() < kRoundsOfGraph ? options.rounds_of_channel() : kRoundsOfGraph;
  const auto of_a = a.capture(litmus, true, b, options, of_graph),
             of_b = b.capture(litmus, false, a, options, of_graph);
  // In turns, for a queue that is full waits for kernels of the other device.
  for (int n = 0; n < options.rounds_of_channel(); n += of_graph) a.replay(of_a), b.replay(of_b);
  a.release(of_a), b.release(of_b);
}

/// What the loops of all pairs have found together.
struct Sum {
  unsigned long long rounds = 0, violations = 0, stuck = 0;
  int pairs = 0;
  void add(const Found& a, const Found& b) {
    rounds += a.rounds < b.rounds ? a.rounds : b.rounds;
    violations += a.violations + b.violations;
    stuck += a.stuck + b.stuck;
    ++pairs;
  }
};

/// Whether a loop went wrong; prints its line.
inline bool is_wrong(const Litmus& litmus, const Sum& sum, long rounds) {
  const bool strong = litmus.weakening == Weakening::none;
  const bool wrong = sum.stuck > 0 || (strong && sum.violations > 0) ||
                     sum.rounds < static_cast<unsigned long long>(rounds) * static_cast<unsigned>(sum.pairs);
  const char* verdict = sum.stuck        ? "STUCK"
                        : wrong          ? "WRONG"
                        : strong         ? "in order"
                        : sum.violations ? "fails, as it should"
                                         : "hidden by this hardware";
  std::printf("%-7s %-12s %-16s %2d directions %12llu rounds %12llu violations  %s\n", name_of(litmus.edge).data(),
              kShapeNames[static_cast<int>(litmus.shape)], kWeakeningNames[static_cast<int>(litmus.weakening)],
              sum.pairs, sum.rounds, sum.violations, verdict);
  std::fflush(stdout);
  return wrong;
}

/// Exit status of the program. `has_bulk`: the vendor's GPUs copy in bulk.
template <class R, auto kLaunch>
int run_all(const Options& options, bool has_bulk) {
  int count = 0, wrong = 0, loops = 0;
  if (const std::string problem = R::problem(); !problem.empty()) throw std::runtime_error(problem);
  tools::gpu::check<R>(R::GetDeviceCount(&count), "counting devices");
  if (count < 1) return std::fprintf(stderr, "litmus: no device\n"), 2;
  if (count == 1) std::printf("one device: between two streams of it, so nothing crosses a link\n");
  std::vector<Device<R, kLaunch>> devices;
  for (int d = 0; d < std::max(2, count); ++d) devices.emplace_back(d % count, count);
  bool covered[std::size(kEdgeNames)] = {true};  // the edge `none`
  for (const Litmus& litmus : kAll) {
    if (litmus.shape == Shape::bulk && !has_bulk) continue;
    Sum sum;
    for (const auto& a : devices)
      for (const auto& b : devices) {
        if (&a == &b) continue;
        run_between(litmus, a, b, options);
        const Found of_a = a.finish();
        sum.add(of_a, b.finish());
      }
    covered[static_cast<int>(litmus.edge)] |= litmus.weakening == Weakening::none;
    wrong += is_wrong(litmus, sum, options.rounds);
    ++loops;
  }
  for (std::size_t e = 0; e < std::size(covered); ++e)
    if (!covered[e]) ++wrong, std::printf("edge %s has no loop\n", kEdgeNames[e].data());
  std::printf("%zu edges, %d loops, %d wrong\n", std::size(kEdgeNames) - 1, loops, wrong);
  return wrong ? 1 : 0;
}

}  // namespace crossdock::litmus
