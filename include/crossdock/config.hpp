// SPDX-License-Identifier: Apache-2.0
// The configuration of an exchange, whether a group supports it, and the memory that it takes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crossdock/types.hpp"

namespace crossdock {

/// What one exchange carries and how. All members are scalars. All ranks must pass equal configs; the constructor of
/// Exchange checks that. W is the number of ranks of the group.
struct Config {
  // Shape.
  std::int32_t hidden = 0;               ///< H, elements per row, 1 to 2^24; rows must be multiples of 16 bytes
  std::int32_t num_experts = 0;          ///< E, of the whole group, 1 to 2^20; expert e lives on rank e / ceil(E / W)
  std::int32_t top_k = 0;                ///< k, ids per token, 1 to 64
  std::int32_t max_tokens_per_rank = 0;  ///< M, most tokens that a rank passes in one call, 1 to 2^24 - 1

  // Dtypes.
  Dtype dispatch_dtype = Dtype::bf16;               ///< rows of dispatch; their bytes are copied, never converted
  Dtype combine_dtype = Dtype::bf16;                ///< rows that combine takes and returns
  CombineQuant combine_quant = CombineQuant::none;  ///< format in which combine sends these rows
  std::int32_t scale_bytes = 0;                     ///< bytes sent along with each token, not interpreted, 0 to 65536

  // Layout of the received rows.
  Layout layout = Layout::token_major;  ///< see TokenRows and ExpertRows
  std::int64_t row_capacity = 0;        ///< most rows that this rank receives, W to W*M; 0: W*M, the worst case
  std::int64_t expert_capacity = 0;     ///< most rows: expert_major per expert, contiguous in total; 0: the worst case
  std::int32_t alignment = 1;           ///< contiguous: each expert starts at a multiple of 1, 8, 16, 32 or 128 rows
  bool zero_padding = false;            ///< contiguous: every dispatch zeroes the padding rows between experts
  // What happens to rows past a capacity.
  Overflow overflow = Overflow::drop;

  // Memory: each of these adds regions, see memory_of().
  bool zero_copy = false;             ///< allocates a combine buffer, see Received::combine_buffer
  bool fused = false;                 ///< allocates combine slots for Exchange::combine_fused; token_major only
  bool combine_topk_weights = false;  ///< combine can return a second result, see CombineOutput::topk_weights
  std::int32_t max_in_flight = 1;     ///< most `Received` objects that exist at once, 1 to 16
  std::int32_t max_kept_plans = 1;    ///< most `Plan` objects that exist at once, 0 to 64
  std::int32_t trace_events = 0;      ///< time stamps stored per Received in flight, 0 (off) to 2^20

  // Launch geometry for calls whose CallOptions set none. 0: not set.
  std::int32_t num_sms = 0;
  std::int32_t num_blocks = 0;
  std::int32_t num_warps = 0;
  std::int32_t splits_per_row = 0;

  bool operator==(const Config&) const = default;
};

/// Result of supports(): `ok`, or false with the reason.
struct Support {
  bool ok = true;
  std::string reason;
  explicit operator bool() const { return ok; }
};

/// Whether a group of `num_ranks` ranks can run `config`. Local, without side effects; needs no device. Does not throw:
/// a variable of the environment that is not valid is a reason, too.
XD_PUBLIC Support supports(const Config& config, int num_ranks);

/// One region of an exchange's memory.
struct RegionBytes {
  std::string name;     ///< e.g. "buffer_set.rows"
  std::string content;  ///< what it holds; after the semicolon, its writers
  std::uint64_t bytes;  ///< sum over all copies: one per Received in flight (buffer_set.*), one per plan (plan.*)
};

/// Bytes of one rank of one exchange. The regions add up to `total_bytes`, which is exactly what the constructor of
/// Exchange allocates.
struct MemoryUsage {
  std::vector<RegionBytes> regions;
  std::uint64_t total_bytes = 0;
};

/// Memory of `config` on one rank with `backend`, computed without allocating. It includes LL packets if
/// CROSSDOCK_PACKET_TOKENS admits them. ConfigError if supports() refuses the config, with its reason.
XD_PUBLIC MemoryUsage memory_of(const Config& config, int num_ranks, BackendKind backend = BackendKind::cpu);

/// The two hidden sizes nearest to config.hidden whose rows are multiples of 16 bytes in both dtypes.
struct NearHidden {
  std::int32_t below;  ///< the largest such size up to config.hidden, or the smallest such size if there is none
  std::int32_t above;  ///< the smallest such size above config.hidden
};
XD_PUBLIC NearHidden near_hidden(const Config& config);

}  // namespace crossdock
