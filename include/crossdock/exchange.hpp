// SPDX-License-Identifier: Apache-2.0
// The two operators. dispatch carries tokens to the ranks that own their experts; combine brings the results back.
//
// Every call enqueues on the given stream and returns; nothing waits on the host, allocates, locks or reads the
// environment, so all of it can be captured in a graph. Ranks make the same calls in the same order; T may differ and be 0.
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

/// Counts of one dispatch, in device memory, written by the call. "Here" is the receiving rank.
struct Counts {
  std::int64_t num_rows;                        ///< rows received here and kept; valid rows are [0, num_rows)
  std::int64_t rows_needed;                     ///< row capacity that would have kept all
  std::int64_t rows_per_source[kMaxRanks];      ///< kept rows by home rank
  std::int64_t dropped_per_source[kMaxRanks];   ///< rows dropped here for want of row capacity, by home rank
  std::int64_t num_tokens;                      ///< T of this rank, after clamping to M
  std::int64_t bad_ids;                         ///< ids of this rank outside [-1, E): counted, not followed
  std::int64_t expert_rows_needed;              ///< expert layouts: expert_capacity that would have kept all
  std::int64_t expert_rows_dropped;             ///< expert layouts: rows dropped for want of expert capacity
};

/// Tokens to send. `num_tokens_on_device`, if given, points to an int32 that is read when the kernel runs and wins over
/// `num_tokens`; above M it is clamped, and the clamp is reported.
struct DispatchInput {
  const void* rows = nullptr;      ///< [T, hidden] of dispatch_dtype; null only if T is 0
  const void* ids = nullptr;       ///< [T, k] int32 or int64, global expert ids, -1 = not routed
  bool ids_are_int64 = false;
  const float* weights = nullptr;  ///< [T, k]; null: each weight is 1
  const void* scales = nullptr;    ///< [T, scale_bytes]; null only if scale_bytes or T is 0
  std::int32_t num_tokens = 0;     ///< T, 0 to M
  const std::int32_t* num_tokens_on_device = nullptr;
};

/// Per-call choices; each may stay at its default.
struct CallOptions {
  StreamHandle stream = nullptr;
  int num_sms = 0;  ///< upper bound on thread blocks, honoured; 0: the tuning rule decides. No effect on the CPU
};

/// Token-major rows as they arrived, in the order (home rank, token). Owned by the library; see Received for how long.
struct TokenRows {
  void* rows;                    ///< [row_capacity, hidden] of dispatch_dtype
  const void* scales;            ///< [row_capacity, scale_bytes] or null
  const std::int32_t* ids;       ///< [row_capacity, k] global ids; -1 past the count
  const float* weights;          ///< [row_capacity, k]; 0 past the count
  const RowSource* sources;      ///< [row_capacity]; rank and token -1 past the count
  std::int64_t row_capacity;
  std::int32_t first_expert;     ///< global id of this rank's first expert
  std::int32_t num_local_experts;
};

/// Rows by expert, order (home rank, token) inside an expert. expert_major: expert x has rows
/// [x * capacity_per_expert, ... + counts[x]). contiguous: [offsets[x], offsets[x] + counts[x]), padded to the alignment.
struct ExpertRows {
  void* rows;                        ///< [num_rows_max, hidden] of dispatch_dtype
  const void* scales;                ///< [num_rows_max, scale_bytes] or null
  const float* weights;              ///< [num_rows_max]: weight of (token, expert), repeated ids added; 0 on padding
  const RowSource* sources;          ///< [num_rows_max]; rank and token -1 on padding
  const std::int32_t* offsets;       ///< [num_local_experts + 1] first row of each expert
  std::int64_t num_rows_max;
  std::int64_t capacity_per_expert;  ///< expert_major; 0 for contiguous
};

/// A view of the library-owned combine buffer (config.zero_copy). Rows correspond to TokenRows or ExpertRows.
struct CombineBuffer {
  void* data;
  std::int64_t num_rows;
  std::int64_t row_bytes;
};

/// A kept routing: where every token went. Move-only; local destructor. Valid while its Exchange lives.
class XD_PUBLIC Plan {
 public:
  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) noexcept;
  ~Plan();
  const Counts* counts() const;                 ///< device memory
  const std::int32_t* expert_counts() const;    ///< [num_local_experts], device memory

 private:
  friend class Exchange;
  friend class Received;
  explicit Plan(std::unique_ptr<detail::PlanState> state);
  std::unique_ptr<detail::PlanState> state_;
};

/// One use of the receive rows. Rows, ids and counts stay valid on this rank's stream until the next dispatch that uses
/// the same place (after combine consumed this object, or after its destructor). Move-only; local destructor.
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
  /// Landing rows of home rank `rank` (config.fused): [M * k, hidden] of combine_dtype, row token * k + j, writable by
  /// kernels of this rank from the end of dispatch until combine_fused.
  void* landing_rows(int rank) const;
  Plan keep();  ///< StateError when config.kept_plans are already kept, or called twice

 private:
  friend class Exchange;
  explicit Received(std::unique_ptr<detail::ReceivedState> state);
  std::unique_ptr<detail::ReceivedState> state_;
};

/// Expert outputs to bring home.
struct CombineInput {
  /// Rows of combine_dtype in the layout of the config: [row_capacity, hidden] or as ExpertRows. Any memory of this
  /// device (staged), or `combine_buffer().data` (zero-copy), alike on all ranks. May be the received rows themselves.
  const void* rows = nullptr;
  bool with_weights = false;       ///< ask for the second result, on every rank alike (config.combine_weights)
  const float* weights = nullptr;  ///< [row_capacity, k] rows to sum for it; null: the dispatched weights
};

/// Where results go.
struct CombineOutput {
  void* rows = nullptr;      ///< [T, hidden] of combine_dtype; may be null only if T is 0
  float* weights = nullptr;  ///< [T, k] second result; null unless asked for
};

/// One time stamp: block `block` of operation `epoch` on place `place` began `phase`.
struct TraceEvent {
  std::uint64_t time_ns;  ///< of the device's clock, monotonic, coarse
  std::uint64_t epoch;
  std::int32_t block;
  std::int16_t place;
  Phase phase;
  bool combine;
};

/// One kind of exchange on a group: the memory of a Config, the two operators. Move-only, local destructor.
class XD_PUBLIC Exchange {
 public:
  /// Collective. Errors: config (the reason of supports(), or the rank and member where configs differ), system.
  Exchange(const Group& group, const Config& config);
  Exchange(Exchange&&) noexcept;
  Exchange& operator=(Exchange&&) noexcept;
  ~Exchange();

  const Config& config() const;
  Memory memory() const;  ///< what was allocated

  /// Routes and sends. Errors before anything is enqueued: usage, state (too many in flight), capacity, peer_lost, aborted.
  Received dispatch(const DispatchInput& input, const CallOptions& options = {});
  /// Sends another payload along a kept plan; ids and weights are not read again.
  Received dispatch(const Plan& plan, const DispatchInput& input, const CallOptions& options = {});

  /// Sums the rows of `input` at their home ranks; consumes `received`, unless an error is thrown before enqueuing.
  void combine(Received&& received, const CombineInput& input, const CombineOutput& output, const CallOptions& options = {});
  /// The same along a kept plan, any number of times.
  void combine(const Plan& plan, const CombineInput& input, const CombineOutput& output, const CallOptions& options = {});

  /// Sums landing rows that kernels of the group have written: out[t] = sum over j of row t*k+j, for ids that were kept.
  /// `num_tokens` -1: T of the plan.
  void combine_fused(Received&& received, const CombineOutput& output, std::int32_t num_tokens = -1,
                     const CallOptions& options = {});

  /// The newest time stamps (config.trace_events), oldest first. Waits for nothing: synchronise before.
  std::vector<TraceEvent> trace() const;

  Status poll() const;   ///< first unclear report of this exchange or its group, without waiting
  void clear_status();   ///< forgets a report that is not fatal
  void close();          ///< local, legal twice; memory lives on while peers may touch it

 private:
  friend class Received;
  std::shared_ptr<detail::ExchangeState> state_;
};

}  // namespace crossdock
