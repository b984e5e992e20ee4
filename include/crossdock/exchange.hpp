// SPDX-License-Identifier: Apache-2.0
// The two operators. dispatch sends each token to the ranks that own its experts. combine sums the experts' rows at the
// token's home rank, which is the rank that passed the token to dispatch.
//
// Shapes: rows are dense and start at multiples of 16 bytes. H, E, k, M: see Config. W: ranks. T: tokens of a call.
// Memory: every pointer is a device pointer on CUDA and HIP and a plain pointer on the CPU. Inputs and outputs belong
//   to the caller and must stay valid until the call has run on its stream. What views point to belongs to the library.
// Streams: with a stream, a call enqueues kernels and returns. It does not wait, allocates no shared or device memory
//   and reads no environment variable, so a graph can capture it. The calls of one exchange must run in the order in
//   which they were made, and in order with the caller's kernels that touch its rows. If these are on several streams,
//   the caller orders the streams, for example by events. On the CPU a call without a stream runs in the calling
//   thread and waits there for its peers, up to the deadline.
// Collective, so that every rank must make the same calls in the same order: Group::join, Group::rendezvous, the
//   constructor of Exchange, dispatch, combine and combine_fused. The first three wait on the host for all ranks. T may
//   differ between ranks and be 0. All other functions are local.
// Threads: one thread at a time may use a Group, or an Exchange with its Received and Plans; abort() is the exception.
// Errors: usage, state, capacity, peer_lost, aborted are thrown before anything is enqueued. A call that loses a peer
//   while it runs ends without an exception: synchronise, then poll(). Outputs are valid only if poll() returns `ok`.
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

/// Counts of one dispatch. The call writes them to device memory: read them in a kernel, or copy them with
/// Exchange::read or on the same stream. "Here" is the rank that reads.
struct Counts {
  std::int64_t num_rows;                       ///< rows received here and not dropped; they are rows [0, num_rows)
  std::int64_t rows_needed;                    ///< row_capacity that would have dropped none
  std::int64_t rows_per_source[kMaxRanks];     ///< num_rows by home rank; W entries are used
  std::int64_t dropped_per_source[kMaxRanks];  ///< rows past row_capacity, by home rank; W entries are used
  std::int64_t num_tokens;                     ///< T of this rank, after clamping to M
  std::int64_t bad_ids;                        ///< ids of this rank outside [-1, E); they are treated as -1
  std::int64_t expert_rows_needed;             ///< expert layouts: expert_capacity that would have dropped none
  std::int64_t expert_rows_dropped;            ///< expert layouts: rows past expert_capacity
};

/// Tokens to send. All pointers belong to the caller; see the top of this file for how long they must stay valid.
struct DispatchInput {
  const void* tokens = nullptr;    ///< [T, hidden] of dispatch_dtype; null only if T is 0
  const void* topk_ids = nullptr;  ///< [T, k] int32 or int64: global expert ids, -1: not routed
  bool topk_ids_are_int64 = false;
  const float* topk_weights = nullptr;  ///< [T, k]; null: each weight is 1
  const void* scales = nullptr;         ///< [T, scale_bytes]; null only if scale_bytes or T is 0
  std::int32_t num_tokens = 0;          ///< T, 0 to M; not used if num_tokens_on_device is given
  /// T in device memory, read when the kernel runs. A value outside [0, M] is clamped, and poll() reports it.
  const std::int32_t* num_tokens_on_device = nullptr;
};

/// Stream and launch geometry of one call. The geometry changes times, never results. Each member that is 0 takes the
/// first value set by the Config, the tuning file or the library's rule, in this order. A value too large for the
/// device is reduced to the largest that fits; a negative one is a UsageError. The CPU always uses one block of one
/// warp.
struct CallOptions {
  StreamHandle stream = nullptr;
  int num_sms = 0;         ///< most thread blocks of any kernel of the call; limits num_blocks too
  int num_blocks = 0;      ///< thread blocks of the kernel that accesses peers' memory
  int num_warps = 0;       ///< warps per block of that kernel
  int splits_per_row = 0;  ///< parts of a row, each moved by one warp, up to 32
};

/// The geometry that a call used. `tuned_by`: call if the call set any member of it; else config, file or rule, in this
/// order. `num_waiting_blocks`: most blocks of one kernel of the call that waits for peers, see
/// GroupOptions::max_concurrent_calls. If it is less than num_blocks, the kernels that move rows between ranks do not
/// wait.
struct LaunchInfo {
  int num_blocks = 0, num_warps = 0, splits_per_row = 0;
  TuningSource tuned_by = TuningSource::rule;
  int num_waiting_blocks = 0;
};

/// Received rows in token-major order: by home rank, then by token. The first Counts::num_rows rows are valid. The
/// memory belongs to the library; see Received for how long it stays valid.
struct TokenRows {
  void* rows;                    ///< [row_capacity, hidden] of dispatch_dtype
  const void* scales;            ///< [row_capacity, scale_bytes]; null if scale_bytes is 0
  const std::int32_t* topk_ids;  ///< [row_capacity, k] all ids of the token, of every rank; -1 past num_rows
  const float* topk_weights;     ///< [row_capacity, k] weights of these ids; 0 past num_rows
  const RowSource* sources;      ///< [row_capacity]; rank and token are -1 past num_rows
  std::int64_t row_capacity;
  std::int32_t first_expert;  ///< global id of this rank's first expert
  std::int32_t num_local_experts;
};

/// Received rows grouped by local expert x. The rows of an expert are in the order of home rank, then token. The memory
/// belongs to the library; see Received for how long it stays valid. n[x] is Received::expert_counts()[x].
/// expert_major: rows [x * capacity_per_expert, x * capacity_per_expert + n[x]).
/// contiguous: rows [offsets[x], offsets[x] + n[x]); offsets are multiples of config.alignment.
struct ExpertRows {
  void* rows;                   ///< [num_rows_max, hidden] of dispatch_dtype
  const void* scales;           ///< [num_rows_max, scale_bytes]; null if scale_bytes is 0
  const float* weights;         ///< [num_rows_max] weight of (token, expert), repeated ids added; 0 on padding
  const RowSource* sources;     ///< [num_rows_max]; rank and token are -1 on padding
  const std::int32_t* offsets;  ///< [num_local_experts + 1] first row of each expert
  std::int64_t num_rows_max;
  std::int64_t capacity_per_expert;  ///< expert_major; 0 for contiguous
};

/// The combine buffer (config.zero_copy), memory of the library. Its rows correspond to TokenRows or ExpertRows. Write
/// it only between a dispatch and the first combine after it. From then on peers may read it, even after this rank's
/// combine has ended.
struct CombineBuffer {
  void* data;             ///< [num_rows, row_bytes]
  std::int64_t num_rows;  ///< TokenRows::row_capacity, or ExpertRows::num_rows_max
  std::int64_t row_bytes;
};

/// The routing of one dispatch: where every token went. A replay is a dispatch or combine that repeats it. Move-only.
/// The destructor is local and legal at any time. A Plan keeps the memory of its Exchange alive.
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

/// What one dispatch delivered. Move-only. It occupies one of the exchange's config.max_in_flight buffer sets (receive
/// rows, combine slots and signals), and is in flight until it is combined or destroyed.
/// Pointers of the views are available at once. What they point to is valid on this rank's stream from the end of
/// dispatch until the next dispatch after this object was combined or destroyed.
/// All ranks must use the same buffer set for a dispatch. So a Received that was not combined must be destroyed between
/// the same calls on every rank; its destructor is local. A captured graph uses the buffer sets that it was captured
/// with, so it may be replayed only while no Received is in flight.
class XD_PUBLIC Received {
 public:
  Received(Received&&) noexcept;
  Received& operator=(Received&&) noexcept;
  ~Received();

  TokenRows tokens() const;
  ExpertRows experts() const;                 ///< StateError for token_major
  bool has_experts() const;                   ///< the layout is expert_major or contiguous
  bool has_combine_buffer() const;            ///< config.zero_copy
  const Counts* counts() const;               ///< device memory
  const std::int32_t* expert_counts() const;  ///< [num_local_experts] (token, expert) pairs not dropped; device memory
  CombineBuffer combine_buffer() const;       ///< StateError unless config.zero_copy
  /// The same buffer as rows of `hidden` elements of `dtype`. UsageError if such a row does not fit.
  CombineBuffer combine_buffer(Dtype dtype, std::int32_t hidden) const;
  /// Combine slots of home rank `rank` (config.fused): [M * k, hidden] of combine_dtype, row token * k + j. Kernels of
  /// this rank may write them from the end of dispatch until combine_fused. For each received token, and each j whose
  /// id is an expert of this rank, write that expert's output times weight j; a repeated id has one row per j.
  /// StateError unless config.fused, UsageError if there is no such rank.
  void* combine_slots(int rank) const;
  /// The routing of this dispatch, for replays. StateError on a second call, if config.max_kept_plans Plans exist, or
  /// if a captured graph overwrites the memory of this plan: a dispatch takes such memory only if no other is free.
  Plan retain_plan();

 private:
  friend class Exchange;
  explicit Received(std::unique_ptr<detail::ReceivedState> state);
  std::unique_ptr<detail::ReceivedState> state_;
};

/// Expert outputs that combine sends to the home ranks.
struct CombineInput {
  /// Rows of combine_dtype in the layout of the config: [row_capacity, hidden] for token_major, else as ExpertRows.
  /// Either the caller's memory on this device (staged; the received rows are legal too) or `combine_buffer().data`
  /// (zero-copy); every rank makes the same choice. Not null, even if no row was received.
  const void* rows = nullptr;
  bool combine_topk_weights = false;    ///< also compute CombineOutput::topk_weights; equal on every rank
  const float* topk_weights = nullptr;  ///< [row_capacity, k] weights to sum; null: the dispatched weights
};

/// Memory of the caller that combine writes.
struct CombineOutput {
  void* rows = nullptr;  ///< [T, hidden] of combine_dtype; null only if T is 0. Zeros for a token that no rank received
  /// [T, k] second result; null without CombineInput::combine_topk_weights, which needs config.combine_topk_weights.
  /// out[t][j] is the sum of weights[row][j] over the ranks that did not drop token t, where `row` is the received row
  /// of t on that rank. The sum is in the order in which the ids of t first name the ranks.
  float* topk_weights = nullptr;
};

/// One time stamp of a kernel. Without a peer: the block began `phase`. With one: it saw the signal of rank `peer` that
/// it waits for in `phase`.
struct TraceEvent {
  std::uint64_t time_ns;  ///< ns of the device's clock: monotonic, of coarse resolution
  std::uint64_t epoch;    ///< number of the operation on its buffer set
  std::int16_t block;
  std::int16_t peer;  ///< -1: none
  std::int16_t buffer_set;
  Phase phase;
  bool combine;  ///< the operation is a combine, else a dispatch
};

/// Memory of one Config on a group, and the two operators on it. Move-only. The destructor is local and legal at any
/// time. If enqueued calls still use the memory, it is freed after they have ended, when this process next makes or
/// destroys a group or exchange. The destructor does not know of replayed graphs, or of the caller's own kernels that
/// were enqueued after the last call on their stream: wait for both before.
class XD_PUBLIC Exchange {
 public:
  /// Collective. Errors: config (the reason of supports(), or the rank and member where configs differ), topology
  /// (ranks that share one device and whose blocks do not fit on it together), state, peer_lost, aborted, system.
  Exchange(const Group& group, const Config& config);
  Exchange(Exchange&&) noexcept;
  Exchange& operator=(Exchange&&) noexcept;
  ~Exchange();

  const Config& config() const;
  MemoryUsage memory() const;  ///< of this exchange; equal to memory_of() of its config

  /// Routes tokens by their ids and sends them. Errors: usage, state (max_in_flight Received exist), capacity,
  /// peer_lost, aborted.
  Received dispatch(const DispatchInput& input, const CallOptions& options = {});
  /// Sends other tokens by the routing of `plan`, with the plan's T. Another num_tokens is a UsageError; a T on the
  /// device is not compared. Ids and weights of `input` are not read. Errors as above.
  Received dispatch(const Plan& plan, const DispatchInput& input, const CallOptions& options = {});

  /// Sums the rows of `input` at their home ranks. Consumes `received`, unless an error is thrown before enqueuing.
  /// Errors: usage, state (`received` was consumed, or belongs to another exchange), capacity, peer_lost, aborted.
  void combine(Received&& received, const CombineInput& input, const CombineOutput& output,
               const CallOptions& options = {});
  /// The same by the routing of `plan`, any number of times. With config.fused, StateError if every buffer set has a
  /// Received in flight whose combine slots the caller may be writing.
  void combine(const Plan& plan, const CombineInput& input, const CombineOutput& output,
               const CallOptions& options = {});

  /// Sums the combine slots that kernels of the group wrote: out[t] = sum of rows t * k + j over the j whose rank did
  /// not drop the token. `num_tokens` -1: the plan's T. Consumes `received` as combine does. An output.topk_weights
  /// that is not null requests the second result, the sum of the dispatched weights. Every rank must make the same
  /// choice, also if its T is 0.
  void combine_fused(Received&& received, const CombineOutput& output, std::int32_t num_tokens = -1,
                     const CallOptions& options = {});

  /// For debugging: fills `bytes` bytes with 0xff, in the order of `stream`. Legal for rows, scales and this rank's own
  /// combine slots of a Received that was consumed or is about to be destroyed, before the next dispatch. The library
  /// still reads all other memory.
  void debug_fill(void* memory, std::uint64_t bytes, StreamHandle stream = nullptr);
  /// Copies memory of the library, such as counts, to the host, after all work on `stream`. Waits for the copy.
  /// StateError if the stream is capturing.
  void read(void* to, const void* memory, std::uint64_t bytes, StreamHandle stream = nullptr) const;

  std::vector<TraceEvent> trace() const;  ///< last config.trace_events of each buffer set, by time; synchronise before
  LaunchInfo last_launch() const;         ///< of the newest call; zeros before the first
  /// The group's failure; else the first of these reports: capacity, bad ids, clamped T. Does not wait.
  Status poll() const;
  void clear_status();  ///< drops all reports that are not fatal, also those that poll() has not returned yet
  void close();         ///< local, legal twice; the memory stays mapped while peers may access it

 private:
  friend class Received;
  std::shared_ptr<detail::ExchangeState> state_;
};

}  // namespace crossdock
