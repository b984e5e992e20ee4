// SPDX-License-Identifier: Apache-2.0
// What an exchange is asked to do, whether it can be served, and what it costs in memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "crossdock/types.hpp"

namespace crossdock {

/// The shape of one exchange. Alike on every rank (checked at creation). Plain scalars: copy and compare at will.
struct Config {
  std::int32_t hidden = 0;               ///< H, elements per row. The rows of both dtypes must be multiples of 16 bytes
  std::int32_t num_experts = 0;          ///< E, of the whole group, up to 2^20; expert e lives on rank e / ceil(E / W)
  std::int32_t top_k = 0;                ///< k, experts per token, 1 to 64
  std::int32_t max_tokens_per_rank = 0;  ///< M, the most tokens a rank passes in one call, 1 to 2^24 - 1

  Dtype dispatch_dtype = Dtype::bf16;               ///< rows of dispatch; bytes are copied, whatever they are
  Dtype combine_dtype = Dtype::bf16;                ///< rows of combine and of its result
  CombineQuant combine_quant = CombineQuant::none;  ///< what crosses the link in combine
  std::int32_t scale_bytes = 0;                     ///< bytes that travel with each token of dispatch, 0 to 65536

  Layout layout = Layout::token_major;
  std::int64_t row_capacity = 0;     ///< received rows, W to W*M; 0 = W*M, the worst case
  std::int64_t expert_capacity = 0;  ///< expert_major: rows per expert; contiguous: rows in all; 0 = worst case
  std::int32_t alignment = 1;        ///< contiguous: each expert starts at a multiple of 1, 8, 16, 32 or 128 rows
  bool zero_padding = false;         ///< contiguous: padding rows between experts are zeroed in every call
  Overflow overflow = Overflow::drop;

  bool zero_copy = false;             ///< own a combine buffer, see Received::combine_buffer
  bool fused = false;                 ///< combine slots for Exchange::combine_fused (token_major only)
  bool combine_topk_weights = false;  ///< combine can return a second result, see CombineOutput::topk_weights
  std::int32_t max_in_flight = 1;     ///< `Received` that may live at once, 1 to 16
  std::int32_t max_kept_plans = 1;    ///< plans that may be kept at once, 0 to 64
  std::int32_t trace_events = 0;      ///< time stamps kept per Received in flight, 0 (off) to 2^20; see Exchange::trace
  std::int32_t num_sms = 0;           ///< geometry of every call that chooses none: see CallOptions
  std::int32_t num_blocks = 0;
  std::int32_t num_warps = 0;
  std::int32_t splits_per_row = 0;

  bool operator==(const Config&) const = default;
};

/// An answer instead of an exception: `ok`, or the reason why not.
struct Support {
  bool ok = true;
  std::string reason;
  explicit operator bool() const { return ok; }
};

/// Whether `config` can be served by a group of `num_ranks`. No side effect, needs no device.
XD_PUBLIC Support supports(const Config& config, int num_ranks);

/// The bytes of one region of memory.
struct RegionBytes {
  std::string name;     ///< e.g. "buffer_set.rows"
  std::string content;  ///< what it holds, and who writes it
  std::uint64_t bytes;
};

/// Bytes that one rank of one exchange takes, before anything is allocated. The lines add up to `total_bytes`, which is
/// exactly what is then allocated.
struct MemoryUsage {
  std::vector<RegionBytes> regions;
  std::uint64_t total_bytes = 0;
};

/// What `config` takes on `backend`. Throws ConfigError with the reason of supports().
XD_PUBLIC MemoryUsage memory_of(const Config& config, int num_ranks, BackendKind backend = BackendKind::cpu);

/// Hidden sizes whose rows are multiples of 16 bytes in both dtypes: the largest up to config.hidden (the smallest there
/// is, if none), and the next above.
struct NearHidden {
  std::int32_t below, above;
};
XD_PUBLIC NearHidden near_hidden(const Config& config);

}  // namespace crossdock
