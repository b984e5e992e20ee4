// SPDX-License-Identifier: Apache-2.0
// The two operators. dispatch carries tokens to the ranks that own their experts; combine brings the results back.
//
// Calls: with a stream a call enqueues and returns; it does not wait, allocate shared or device memory, or look at the
//   environment, so all of it can be captured in a graph. On the CPU without a stream it runs in the calling thread and
//   waits there for its peers, up to the deadline.
// Collective: Group::join and rendezvous, the constructor of Exchange (they wait for all ranks); dispatch, combine and
//   combine_fused: the same calls in the same order on every rank, T may differ and be 0. All else is local.
// Threads: one at a time on a Group, and on an Exchange with its Received and Plans.
// Streams: the calls of one exchange must run in one order, also in relation to the caller's kernels that touch its rows;
//   on several streams that is the caller's business. Inputs and outputs stay valid until the call has run there.
// Results: a call that meets a lost peer returns all the same. Synchronise, then poll(): only `ok` makes outputs valid.
// Pointers are device pointers on CUDA and HIP, plain pointers on the CPU; rows are 16-byte aligned and dense.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "crossdock/config.hpp"
#include "crossdock/group.hpp"
#include "crossdock/types.hpp"

namespace crossdock {

namespace detail {
class ExchangeState;
struct ReceivedState;
struct PlanState;
}  // namespace detail

/// Counts of one dispatch, in device memory, written by the call: read them in a kernel, or copy them on the same stream;
/// on the CPU they are plain memory. "Here" is the receiving rank.
struct Counts {
  std::int64_t num_rows;                       ///< rows received here and kept; valid rows are [0, num_rows)
  std::int64_t rows_needed;                    ///< row capacity that would have kept all
  std::int64_t rows_per_source[kMaxRanks];     ///< kept rows by home rank
  std::int64_t dropped_per_source[kMaxRanks];  ///< rows dropped here for want of row capacity, by home rank
  std::int64_t num_tokens;                     ///< T of this rank, after clamping to M
  std::int64_t bad_ids;                        ///< ids of this rank outside [-1, E): counted, not followed
  std::int64_t expert_rows_needed;             ///< expert layouts: expert_capacity that would have kept all
  std::int64_t expert_rows_dropped;            ///< expert layouts: rows dropped for want of expert capacity
};

/// Tokens to send. `num_tokens_on_device`, if given, points to an int32 that is read when the kernel runs and wins over
/// `num_tokens`; above M it is clamped, and the clamp is reported.
struct DispatchInput {
  const void* tokens = nullptr;    ///< [T, hidden] of dispatch_dtype; null only if T is 0
  const void* topk_ids = nullptr;  ///< [T, k] int32 or int64, global expert ids, -1 = not routed
  bool topk_ids_are_int64 = false;
  const float* topk_weights = nullptr;  ///< [T, k]; null: each weight is 1
  const void* scales = nullptr;         ///< [T, scale_bytes]; null only if scale_bytes or T is 0
  std::int32_t num_tokens = 0;          ///< T, 0 to M
  const std::int32_t* num_tokens_on_device = nullptr;
};

/// Per-call choices. A geometry changes times, never results; what is 0 is left to the Config, then to a tuning file, then
/// to the rule. More than fits is taken as what fits; negative: UsageError. The CPU has one block of one warp.
struct CallOptions {
  StreamHandle stream = nullptr;
  int num_sms = 0;         ///< upper bound on thread blocks, whoever chooses them; honoured by every kernel of the call
  int num_blocks = 0;      ///< thread blocks of the kernel that crosses the link
  int num_warps = 0;       ///< warps of each of its blocks
  int splits_per_row = 0;  ///< parts of a row that different warps take, up to 32
};

/// The geometry of a call, and the first of call, config, file and rule that had a say in it.
struct LaunchInfo {
  int num_blocks = 0, num_warps = 0, splits_per_row = 0;
  TuningSource tuned_by = TuningSource::rule;
};

/// Token-major rows as they arrived, in the order (home rank, token). Owned by the library; see Received for how long.
struct TokenRows {
  void* rows;                    ///< [row_capacity, hidden] of dispatch_dtype
  const void* scales;            ///< [row_capacity, scale_bytes] or null
  const std::int32_t* topk_ids;  ///< [row_capacity, k] all ids of the token, other ranks' too; -1: none, past the count
  const float* topk_weights;     ///< [row_capacity, k] beside the ids; 0 past the count
  const RowSource* sources;      ///< [row_capacity]; rank and token -1 past the count
  std::int64_t row_capacity;
  std::int32_t first_expert;  ///< global id of this rank's first expert
  std::int32_t num_local_experts;
};

/// Rows by expert, order (home rank, token) inside an expert. expert_major: expert x has rows
/// [x * capacity_per_expert, ... + counts[x]). contiguous: [offsets[x], offsets[x] + counts[x]), padded to the alignment.
struct ExpertRows {
  void* rows;                   ///< [num_rows_max, hidden] of dispatch_dtype
  const void* scales;           ///< [num_rows_max, scale_bytes] or null
  const float* weights;         ///< [num_rows_max]: weight of (token, expert), repeated ids added; 0 on padding
  const RowSource* sources;     ///< [num_rows_max]; rank and token -1 on padding
  const std::int32_t* offsets;  ///< [num_local_experts + 1] first row of each expert
  std::int64_t num_rows_max;
  std::int64_t capacity_per_expert;  ///< expert_major; 0 for contiguous
};

/// A view of the library-owned combine buffer (config.zero_copy). Rows correspond to TokenRows or ExpertRows. Peers may
/// read them after this rank's combine has ended: write them only between a dispatch and the first combine after it.
struct CombineBuffer {
  void* data;
  std::int64_t num_rows;
  std::int64_t row_bytes;
};

/// A kept routing: where every token went. Move-only; the destructor is local, at any time. Keeps its Exchange's memory.
class XD_PUBLIC Plan {
 public:
  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) noexcept;
  ~Plan();
  const Counts* counts() const;               ///< device memory
  const std::int32_t* expert_counts() const;  ///< [num_local_experts], device memory

 private:
  friend class Exchange;
  friend class Received;
  explicit Plan(std::unique_ptr<detail::PlanState> state);
  std::unique_ptr<detail::PlanState> state_;
};

/// One use of the receive rows. Pointers of its views may be taken at once; what they point to is valid on this rank's
/// stream from the end of dispatch until the next dispatch after this object was combined or destroyed. Destroying one that
/// was not combined is local but must fall between the same calls on every rank. A captured graph goes on using what it was
/// captured with: replay it while no Received is in flight. Move-only.
class XD_PUBLIC Received {
 public:
  Received(Received&&) noexcept;
  Received& operator=(Received&&) noexcept;
  ~Received();

  TokenRows tokens() const;
  ExpertRows experts() const;                 ///< StateError for token_major
  bool has_experts() const;                   ///< the layout is by expert
  bool has_combine_buffer() const;            ///< config.zero_copy
  const Counts* counts() const;               ///< device memory
  const std::int32_t* expert_counts() const;  ///< [num_local_experts] kept (token, expert) pairs, repeated ids once
  CombineBuffer combine_buffer() const;       ///< StateError unless config.zero_copy
  /// The same buffer seen as rows of `hidden` elements of `dtype`. UsageError if such a row does not fit.
  CombineBuffer combine_buffer(Dtype dtype, std::int32_t hidden) const;
  /// Combine slots of home rank `rank` (config.fused): [M * k, hidden] of combine_dtype, row token * k + j, writable by
  /// kernels of this rank from the end of dispatch until combine_fused. Write a row, its weight applied, for every j whose
  /// id is one of this rank's experts; a repeated id has one each.
  void* combine_slots(int rank) const;
  Plan retain_plan();  ///< StateError when config.max_kept_plans are already kept, or called twice

 private:
  friend class Exchange;
  explicit Received(std::unique_ptr<detail::ReceivedState> state);
  std::unique_ptr<detail::ReceivedState> state_;
};

/// Expert outputs to bring home.
struct CombineInput {
  /// Rows of combine_dtype in the layout of the config: [row_capacity, hidden] or as ExpertRows. Any memory of this
  /// device (staged), or `combine_buffer().data` (zero-copy), alike on all ranks. May be the received rows themselves.
  /// Never null, also where nothing was received.
  const void* rows = nullptr;
  bool combine_topk_weights = false;  ///< ask for the second result, on every rank alike (config.combine_topk_weights)
  const float* topk_weights = nullptr;  ///< [row_capacity, k] rows to sum for it; null: the dispatched weights
};

/// Where results go.
struct CombineOutput {
  void* rows = nullptr;  ///< [T, hidden] of combine_dtype; null only if T is 0. Zeros for a token that no rank kept
  /// [T, k] second result, null unless asked for: out[t][j] = the sum over the ranks that kept token t, in the order in
  /// which its ids first name them, of weights[row][j].
  float* topk_weights = nullptr;
};

/// One time stamp: block `block` of operation `epoch` on buffer set `buffer_set` began `phase`; or, with a peer, saw the signal of rank
/// `peer` that it waits for in this phase.
struct TraceEvent {
  std::uint64_t time_ns;  ///< of the device's clock, monotonic, coarse
  std::uint64_t epoch;
  std::int16_t block;
  std::int16_t peer;  ///< -1: none
  std::int16_t buffer_set;
  Phase phase;
  bool combine;
};

/// One kind of exchange on a group: the memory of a Config, the two operators. Move-only; the destructor is local, at
/// any time: memory that calls under way still use goes when, after their end, the process makes or destroys another
/// group or exchange. Two things must have ended before: replays of graphs that captured calls, and kernels of the
/// caller that use the memory behind the last call on their stream.
class XD_PUBLIC Exchange {
 public:
  /// Collective. Errors: config (the reason of supports(), or the rank and member where configs differ), topology (ranks
  /// on one device that cannot hold their blocks together), state, peer_lost, aborted, system.
  Exchange(const Group& group, const Config& config);
  Exchange(Exchange&&) noexcept;
  Exchange& operator=(Exchange&&) noexcept;
  ~Exchange();

  const Config& config() const;
  MemoryUsage memory() const;  ///< what was allocated

  /// Routes and sends. Errors before anything is enqueued: usage, state (too many in flight), capacity, peer_lost, aborted.
  Received dispatch(const DispatchInput& input, const CallOptions& options = {});
  /// Sends another payload along a kept plan: its T rows, also where only the device knows T. Reads no ids, no weights.
  Received dispatch(const Plan& plan, const DispatchInput& input, const CallOptions& options = {});

  /// Sums the rows of `input` at their home ranks; consumes `received`, unless an error is thrown before enqueuing.
  void combine(Received&& received, const CombineInput& input, const CombineOutput& output,
               const CallOptions& options = {});
  /// The same along a kept plan, any number of times.
  void combine(const Plan& plan, const CombineInput& input, const CombineOutput& output,
               const CallOptions& options = {});

  /// Sums combine slots that kernels of the group wrote: out[t] = sum of rows t*k+j, j kept. `num_tokens` -1: the plan's T.
  void combine_fused(Received&& received, const CombineOutput& output, std::int32_t num_tokens = -1,
                     const CallOptions& options = {});

  /// For debugging: fills memory that a consumed or dying Received showed with 0xff, in the order of `stream`. Call it
  /// before the next dispatch, on rows, scales or this rank's combine slots: the library needs what else there is.
  void debug_fill(void* memory, std::uint64_t bytes, StreamHandle stream = nullptr);
  /// Copies memory of the library's, say counts, to the host behind all on `stream`: waits. StateError if it is capturing.
  void read(void* to, const void* memory, std::uint64_t bytes, StreamHandle stream = nullptr) const;

  std::vector<TraceEvent> trace() const;  ///< newest stamps (config.trace_events), oldest first; synchronise before
  LaunchInfo last_launch() const;         ///< of the newest call; zeros before the first
  Status poll() const;  ///< the group's failure, else a report: capacity, bad ids, clamped T in this order; no waiting
  void clear_status();  ///< forgets all reports that are not fatal, also those that poll() has not shown yet
  void close();         ///< local, legal twice; memory lives on while peers may touch it

 private:
  friend class Received;
  std::shared_ptr<detail::ExchangeState> state_;
};

}  // namespace crossdock
