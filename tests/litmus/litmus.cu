// SPDX-License-Identifier: Apache-2.0
// Runs every loop of patterns.hpp between every two devices, in both directions. A loop as in the kernels must never find a
// row out of order. One that is weakened should; where the hardware hides it, that is noted.
//
// usage: litmus [--rounds N]   rounds of each loop and direction, all channels together; 1000000 by default
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "litmus/patterns.hpp"

namespace crossdock::litmus {
namespace {

constexpr int kThreads = 256;
constexpr unsigned long long kPatienceNs = 5'000'000'000ull;

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "litmus: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(2);
}

// ---- words and rows, as platform/cuda spells them ----------------------------------------------------------------------

__device__ void store(std::uint64_t* p, std::uint64_t v, bool relaxed) {
  if (relaxed)
    asm volatile("st.relaxed.sys.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
  else
    asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
__device__ std::uint64_t load(const std::uint64_t* p, bool relaxed) {
  std::uint64_t v;
  if (relaxed)
    asm volatile("ld.relaxed.sys.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  else
    asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
__device__ unsigned add(std::uint32_t* p, bool relaxed) {
  unsigned old;
  if (relaxed)
    asm volatile("atom.relaxed.gpu.add.u32 %0, [%1], 1;" : "=r"(old) : "l"(p) : "memory");
  else
    asm volatile("atom.acq_rel.gpu.add.u32 %0, [%1], 1;" : "=r"(old) : "l"(p) : "memory");
  return old;
}
__device__ void store16(std::uint32_t* to, unsigned v) {
  asm volatile("st.global.L1::no_allocate.v4.u32 [%0], {%1, %1, %1, %1};" ::"l"(__cvta_generic_to_global(to)), "r"(v)
               : "memory");
}
/// First and last word of a unit.
__device__ unsigned load16(const std::uint32_t* from, unsigned& last) {
  unsigned first;
  asm volatile("{.reg .u32 b, c; ld.global.L1::no_allocate.v4.u32 {%0, b, c, %1}, [%2];}"
               : "=r"(first), "=r"(last)
               : "l"(__cvta_generic_to_global(from))
               : "memory");
  return first;
}
__device__ unsigned long long now_ns() {
  unsigned long long ns;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(ns));
  return ns;
}

// ---- one channel ---------------------------------------------------------------------------------------------------------

/// What a block sees of its channel. `near` is its own device, `far` the other.
struct Channel {
  Side near, far;
  int channel;
  Weakening weakening;
  volatile unsigned long long* stuck;  // somebody on this device has given up

  __device__ bool weak(Weakening w) const { return weakening == w; }
  __device__ std::uint64_t* word(const Side& side, int idx) const { return side.words + (channel * kWords + idx) * 16; }
  __device__ std::uint32_t* unit(const Side& side, int idx) const { return side.rows + (channel * kUnits + idx) * 4; }

  __device__ bool give_up() const {
    atomicAdd(&near.found->stuck, 1ull);
    *stuck = 1;
    return false;
  }
  __device__ bool wait(int idx, std::uint64_t value, bool relaxed) const {
    const unsigned long long began = now_ns();
    for (int polls = 1;; ++polls) {
      if (load(word(near, idx), relaxed) >= value) return true;
      if (polls % 256 == 0 && (*stuck || now_ns() - began > kPatienceNs)) return give_up();
    }
  }
};

// Words: 0 the signal under test, 1 the answer, always strong, that ends a round.

__device__ void store_rows(const Channel& c, const Side& at, unsigned n, int part, int parts) {
  for (int i = threadIdx.x + part * kThreads; i < kUnits; i += kThreads * parts) store16(c.unit(at, i), n);
}

/// Counts units that are not `n` in their first or last word.
__device__ void read_rows(const Channel& c, const Side& at, unsigned n) {
  unsigned wrong = 0;
  for (int i = threadIdx.x; i < kUnits; i += kThreads) {
    unsigned last = 0;
    const unsigned first = load16(c.unit(at, i), last);
    wrong += first != n || last != n;
  }
  if (wrong) atomicAdd(&c.near.found->violations, 1ull);
}

__device__ bool answer_and_go_on(const Channel& c, std::uint64_t n) {
  __syncthreads();
  __threadfence_system();
  if (threadIdx.x == 0) store(c.word(c.far, 1), n, false);
  return true;
}
__device__ bool await_answer(const Channel& c, std::uint64_t n) {
  bool ok = true;
  if (threadIdx.x == 0) ok = c.wait(1, n, false);
  ok = !__syncthreads_or(!ok);
  __threadfence_system();
  return ok;
}
__device__ bool await_signal(const Channel& c, std::uint64_t n) {
  bool ok = true;
  if (threadIdx.x == 0) ok = c.wait(0, n, c.weak(Weakening::relaxed_wait));
  return !__syncthreads_or(!ok);
}
__device__ void signal(const Channel& c, std::uint64_t n) {
  if (!c.weak(Weakening::no_barrier)) __syncthreads();
  if (threadIdx.x == 0) store(c.word(c.far, 0), n, c.weak(Weakening::relaxed_signal));
}

/// Two blocks store half of the rows each; the last to arrive signals, as in finish() and exchange_ready().
__device__ bool push_from_a(const Channel& c, std::uint64_t n, int part) {
  store_rows(c, c.far, static_cast<unsigned>(n), part, 2);
  if (!c.weak(Weakening::no_barrier)) __syncthreads();
  if (threadIdx.x == 0 && add(c.near.arrivals + c.channel, c.weak(Weakening::relaxed_arrival)) + 1 == 2 * n)
    store(c.word(c.far, 0), n, c.weak(Weakening::relaxed_signal));
  return await_answer(c, n);
}

__device__ bool pull_from_a(const Channel& c, std::uint64_t n) {
  store_rows(c, c.near, static_cast<unsigned>(n), 0, 1);
  signal(c, n);
  return await_answer(c, n);
}

__device__ bool bulk_from_a(const Channel& c, std::uint64_t n) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  alignas(128) __shared__ std::uint32_t rows[kUnits * 4];
  for (int i = threadIdx.x; i < kUnits * 4; i += kThreads) rows[i] = static_cast<unsigned>(n);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  if (threadIdx.x == 0) {
    constexpr int kPieces = 8;
    for (int piece = 0; piece < kPieces; ++piece)
      asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(
                       __cvta_generic_to_global(c.unit(c.far, piece * kUnits / kPieces))),
                   "r"(static_cast<unsigned>(__cvta_generic_to_shared(rows + piece * kUnits / kPieces * 4))),
                   "r"(kUnits / kPieces * 16)
                   : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    if (c.weak(Weakening::read_wait))
      asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
    else
      asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    store(c.word(c.far, 0), n, c.weak(Weakening::relaxed_signal));
  }
  return await_answer(c, n);
#else
  return c.give_up();  // older devices have no bulk copies
#endif
}

/// B reads what A wrote in the round before, then permits A to overwrite it.
__device__ bool permit_from_b(const Channel& c, std::uint64_t n) {
  unsigned first[kUnits / kThreads], last[kUnits / kThreads];
#pragma unroll
  for (int i = 0; i < kUnits / kThreads; ++i) first[i] = load16(c.unit(c.near, threadIdx.x + i * kThreads), last[i]);
  signal(c, n);
  unsigned wrong = 0;
#pragma unroll
  for (int i = 0; i < kUnits / kThreads; ++i) wrong += first[i] != n - 1 || last[i] != n - 1;
  if (wrong) atomicAdd(&c.near.found->violations, 1ull);
  return await_answer(c, n);
}
__device__ bool permit_from_a(const Channel& c, std::uint64_t n) {
  if (!await_signal(c, n)) return false;
  store_rows(c, c.far, static_cast<unsigned>(n), 0, 1);
  return answer_and_go_on(c, n);
}

/// A's poison word goes to B before a later kernel of A spoils rows that B may still read: a fence stands for its end.
__device__ bool second_look_from_a(const Channel& c, std::uint64_t n) {
  const bool late = c.weak(Weakening::spoils_first);
  if (late) store_rows(c, c.near, static_cast<unsigned>(n), 0, 1);
  __syncthreads();
  if (threadIdx.x == 0) store(c.word(c.far, 0), n, false);
  __syncthreads();
  __threadfence_system();
  if (!late) store_rows(c, c.near, static_cast<unsigned>(n), 0, 1);
  return await_answer(c, n);
}
/// Each warp of B reads one unit over the link, then looks; whoever has read a spoilt one must find the poison.
__device__ bool second_look_from_b(const Channel& c, std::uint64_t n) {
  const unsigned long long began = now_ns();
  bool spoilt = false, stuck = false;
  while (!spoilt && !stuck) {
    std::uint64_t poison = 0;
    unsigned last = 0;
    if (c.weak(Weakening::looks_first)) poison = load(c.word(c.near, 0), false);
    spoilt = load16(c.unit(c.far, threadIdx.x), last) == n;
    if (!c.weak(Weakening::looks_first) && spoilt) poison = load(c.word(c.near, 0), false);
    if (spoilt && poison < n) atomicAdd(&c.near.found->violations, 1ull);
    stuck = *c.stuck || now_ns() - began > kPatienceNs;
  }
  if (__syncthreads_or(stuck && !spoilt)) return c.give_up();
  return answer_and_go_on(c, n);
}

__device__ bool play(Shape shape, bool is_a, const Channel& c, std::uint64_t n, int part) {
  if (shape == Shape::permit) return is_a ? permit_from_a(c, n) : permit_from_b(c, n);
  if (shape == Shape::second_look) return is_a ? second_look_from_a(c, n) : second_look_from_b(c, n);
  if (is_a)
    return shape == Shape::push   ? push_from_a(c, n, part)
           : shape == Shape::pull ? pull_from_a(c, n)
                                  : bulk_from_a(c, n);
  if (!await_signal(c, n)) return false;
  read_rows(c, shape == Shape::pull ? c.far : c.near, static_cast<unsigned>(n));
  return answer_and_go_on(c, n);
}

__global__ void __launch_bounds__(kThreads)
    loop(Litmus litmus, bool is_a, Side near, Side far, int rounds, volatile unsigned long long* stuck) {
  const int parts = is_a && litmus.shape == Shape::push ? 2 : 1;
  const Channel c{near, far, static_cast<int>(blockIdx.x) / parts, litmus.weakening, stuck};
  int n = 1;
  while (n <= rounds &&
         play(litmus.shape, is_a, c, static_cast<std::uint64_t>(n), static_cast<int>(blockIdx.x) % parts))
    ++n;
  if (threadIdx.x == 0 && static_cast<int>(blockIdx.x) % parts == 0)
    atomicAdd(&near.found->rounds, static_cast<unsigned long long>(n - 1));
}

// ---- the host -------------------------------------------------------------------------------------------------------------

struct Device {
  int ordinal = 0;
  Side side{};
  unsigned long long* stuck = nullptr;
  cudaStream_t stream = nullptr;

  void open(int which, int count) {
    ordinal = which;
    check(cudaSetDevice(ordinal), "cudaSetDevice");
    for (int other = 0; other < count; ++other)
      if (other != ordinal) check(cudaDeviceEnablePeerAccess(other, 0), "peer access");
    check(cudaMalloc(&side.words, kChannels * kWords * 128), "cudaMalloc");
    check(cudaMalloc(&side.rows, kChannels * kUnits * 16), "cudaMalloc");
    check(cudaMalloc(&side.arrivals, kChannels * sizeof(std::uint32_t)), "cudaMalloc");
    check(cudaMalloc(&side.found, sizeof(Found)), "cudaMalloc");
    check(cudaMalloc(&stuck, sizeof *stuck), "cudaMalloc");
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  }
  void clear() const {
    check(cudaSetDevice(ordinal), "cudaSetDevice");
    check(cudaMemset(side.words, 0, kChannels * kWords * 128), "cudaMemset");
    check(cudaMemset(side.rows, 0, kChannels * kUnits * 16), "cudaMemset");
    check(cudaMemset(side.arrivals, 0, kChannels * sizeof(std::uint32_t)), "cudaMemset");
    check(cudaMemset(side.found, 0, sizeof(Found)), "cudaMemset");
    check(cudaMemset(stuck, 0, sizeof *stuck), "cudaMemset");
    check(cudaDeviceSynchronize(), "clearing");
  }
  void launch(const Litmus& litmus, bool is_a, const Device& other, int rounds) const {
    check(cudaSetDevice(ordinal), "cudaSetDevice");
    const int parts = is_a && litmus.shape == Shape::push ? 2 : 1;
    loop<<<kChannels * parts, kThreads, 0, stream>>>(litmus, is_a, side, other.side, rounds, stuck);
    check(cudaGetLastError(), "launching a loop");
  }
  Found finish() const {
    Found found{};
    check(cudaStreamSynchronize(stream), "a loop");
    check(cudaMemcpy(&found, side.found, sizeof found, cudaMemcpyDefault), "cudaMemcpy");
    return found;
  }
};

Found between(const Device& a, const Device& b, const Litmus& litmus, int rounds) {
  a.clear();
  b.clear();
  a.launch(litmus, true, b, rounds);
  b.launch(litmus, false, a, rounds);
  const Found of_a = a.finish(), of_b = b.finish();
  return {of_a.rounds < of_b.rounds ? of_a.rounds : of_b.rounds, of_a.violations + of_b.violations,
          of_a.stuck + of_b.stuck};
}

#define XD_NAME(name, ...) #name,
constexpr const char* kShapeNames[] = {XD_SHAPES(XD_NAME)};
constexpr const char* kWeakeningNames[] = {XD_WEAKENINGS(XD_NAME)};
#undef XD_NAME
#define XD_ROW(edge, shape, weakening) {Edge::edge, Shape::shape, Weakening::weakening},
constexpr Litmus kAll[] = {XD_LITMUS(XD_ROW)};
#undef XD_ROW

/// Whether a loop went wrong; prints its line.
bool run(const std::vector<Device>& devices, const Litmus& litmus, long rounds) {
  Found sum{};
  int pairs = 0;
  for (const Device& a : devices)
    for (const Device& b : devices) {
      if (a.ordinal == b.ordinal) continue;
      const Found found = between(a, b, litmus, static_cast<int>((rounds + kChannels - 1) / kChannels));
      sum.rounds += found.rounds, sum.violations += found.violations, sum.stuck += found.stuck;
      ++pairs;
    }
  const bool strong = litmus.weakening == Weakening::none;
  const bool wrong = sum.stuck > 0 || (strong && sum.violations > 0) ||
                     sum.rounds < static_cast<unsigned long long>(rounds) * static_cast<unsigned>(pairs);
  const char* verdict = sum.stuck        ? "STUCK"
                        : wrong          ? "WRONG"
                        : strong         ? "in order"
                        : sum.violations ? "fails, as it should"
                                         : "hidden by this hardware";
  std::printf("%-7s %-12s %-16s %2d directions %12llu rounds %12llu violations  %s\n", name_of(litmus.edge).data(),
              kShapeNames[static_cast<int>(litmus.shape)], kWeakeningNames[static_cast<int>(litmus.weakening)], pairs,
              sum.rounds, sum.violations, verdict);
  std::fflush(stdout);
  return wrong;
}

}  // namespace
}  // namespace crossdock::litmus

int main(int argc, char** argv) {
  using namespace crossdock;
  using namespace crossdock::litmus;
  long rounds = 1'000'000;
  if (argc == 3 && std::strcmp(argv[1], "--rounds") == 0) rounds = std::atol(argv[2]);
  int count = 0, wrong = 0;
  check(cudaGetDeviceCount(&count), "counting devices");
  if (count < 2) return std::fprintf(stderr, "litmus: %d device(s); two are needed\n", count), 2;
  std::vector<Device> devices(static_cast<std::size_t>(count));
  for (int d = 0; d < count; ++d) devices[static_cast<std::size_t>(d)].open(d, count);
  bool covered[std::size(kEdgeNames)] = {true};  // the edge `none`
  for (const Litmus& litmus : kAll) {
    covered[static_cast<int>(litmus.edge)] |= litmus.weakening == Weakening::none;
    wrong += run(devices, litmus, rounds);
  }
  for (std::size_t e = 0; e < std::size(covered); ++e)
    if (!covered[e]) ++wrong, std::printf("edge %s has no loop\n", kEdgeNames[e].data());
  std::printf("%zu edges, %zu loops, %d wrong\n", std::size(kEdgeNames) - 1, std::size(kAll), wrong);
  return wrong ? 1 : 0;
}
