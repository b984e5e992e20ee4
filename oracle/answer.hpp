// SPDX-License-Identifier: Apache-2.0
// The definition of the answer: computes the answers of all ranks from the inputs of all ranks, by plain loops.
// W ranks, E experts, L = ceil(E / W) experts per rank, k ids per token, H hidden, T tokens of a rank.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "crossdock/types.hpp"

namespace crossdock::oracle {

/// The shape of one exchange. Zero capacities mean the worst case, as in the library's configuration.
struct Case {
  int num_ranks = 1;
  int hidden = 0;
  int num_experts = 0;
  int top_k = 0;
  int max_tokens_per_rank = 0;
  Dtype dispatch_dtype = Dtype::bf16;
  Dtype combine_dtype = Dtype::bf16;
  CombineQuant combine_quant = CombineQuant::none;
  int scale_bytes = 0;
  Layout layout = Layout::token_major;
  std::int64_t row_capacity = 0;     ///< received rows per rank
  std::int64_t expert_capacity = 0;  ///< expert_major: rows per expert; contiguous: rows in all
  int alignment = 1;                 ///< contiguous: rows of an expert start at and occupy multiples of it
};

int experts_per_rank(const Case& c);                     ///< L
int rank_of_expert(const Case& c, std::int64_t expert);  ///< expert in [0, E)
int num_local_experts(const Case& c, int rank);          ///< L, fewer or none on the last ranks
std::int64_t row_capacity(const Case& c);                ///< default W * M
std::int64_t expert_capacity(const Case& c);             ///< default: room for all that row_capacity admits
std::int64_t landing_rows_per_token(const Case& c);      ///< min(k, W)

/// Input of one rank to dispatch. For a replay along a plan: the ids and weights of the routing, new rows and scales.
struct RankInput {
  int num_tokens = 0;                ///< T; above M it counts as M
  std::vector<std::uint8_t> rows;    ///< [T][row bytes of dispatch_dtype]
  std::vector<std::int64_t> ids;     ///< [T][k]
  std::vector<float> weights;        ///< [T][k]; empty: each weight is 1
  std::vector<std::uint8_t> scales;  ///< [T][scale_bytes]
};

/// One destination of a token.
struct Destination {
  int rank;
  std::int64_t slot;  ///< row there; -1: dropped, past the row capacity
  bool operator==(const Destination&) const = default;
};

/// Rows of a rank by expert (expert_major, contiguous). Rows that are not filled are padding: slot -1, source rank and
/// token -1, weight 0. A filled row has the bytes and scales of token-major row `slots[row]`.
struct ExpertAnswer {
  std::int64_t num_rows_max = 0;      ///< extent of the arrays: local experts * capacity, or capacity
  std::vector<std::int32_t> offsets;  ///< [local experts + 1]; contiguous: from uncapped counts, may pass the capacity
  std::vector<std::int64_t> slots;    ///< [num_rows_max] token-major row that is copied to this row; -1 on padding
  std::vector<RowSource> sources;     ///< [num_rows_max]
  std::vector<float> weights;         ///< [num_rows_max] weights of the token's ids that name the expert, added from +0
  std::vector<std::int32_t> needed;   ///< [local experts] (token, expert) pairs among the kept token-major rows
  std::vector<std::int32_t> dropped;  ///< [local experts] of these, past the expert capacity
  std::int64_t rows_needed = 0;       ///< expert_capacity that keeps all: largest count, or offsets.back()
  std::int64_t rows_dropped = 0;
  std::vector<std::int64_t>
      row_of_id;  ///< [num_rows][k] expert row of id j of a token-major row if the id is local, the
                  ///< first to name its expert, and kept; else -1
};

/// Result of dispatch on one rank.
struct RankAnswer {
  // As a receiver. Rows are in the order (home rank, token). Past num_rows the metadata is id -1, weight 0, source rank
  // and token -1; combine_slot has no meaning there.
  std::int64_t num_rows = 0;
  std::int64_t rows_needed = 0;
  std::vector<std::uint8_t> rows;                ///< [num_rows][row bytes of dispatch_dtype]
  std::vector<std::uint8_t> scales;              ///< [num_rows][scale_bytes]
  std::vector<std::int32_t> ids;                 ///< [row_capacity][k], ids outside [0, E) as -1
  std::vector<float> weights;                    ///< [row_capacity][k], bits as given
  std::vector<RowSource> sources;                ///< [row_capacity]
  std::vector<std::int64_t> rows_per_source;     ///< [W] rows that were not dropped
  std::vector<std::int64_t> dropped_per_source;  ///< [W]
  std::vector<std::int32_t> expert_counts;       ///< [local experts] kept (token, expert) pairs, after both capacities
  ExpertAnswer experts;                          ///< empty for token_major

  // As a home rank.
  int num_tokens = 0;
  std::int64_t bad_ids = 0;                            ///< ids outside [-1, E)
  std::vector<std::vector<Destination>> destinations;  ///< [T] distinct ranks as the token's ids first name them
  std::vector<std::uint64_t> kept_ids;                 ///< [T] bit j: id j is valid and its rank kept the row
};

/// Answers of all ranks. `copy_rows` false leaves RankAnswer::rows empty, because they can be gigabytes; use
/// received_row().
std::vector<RankAnswer> dispatch_answer(const Case& c, const std::vector<RankInput>& inputs, bool copy_rows = true);

/// Whether two sources are the same row. Past num_rows and on padding only rank and token are compared.
bool same_source(const RowSource& a, const RowSource& b);

/// The bytes of the token from which a received row comes.
const std::uint8_t* received_row(const Case& c, const std::vector<RankInput>& inputs, const RowSource& source);

/// Expert outputs of one rank, in the layout of the case.
struct RankOutput {
  std::span<const std::uint8_t> rows;   ///< rows of combine_dtype, at least up to the last row that is filled
  std::span<const float> weights = {};  ///< [num_rows][k] for the second result; empty: the dispatched weights
};

/// Result of combine on one rank.
struct RankResult {
  std::vector<std::uint8_t> rows;  ///< [T][row bytes of combine_dtype]
  std::vector<float> weights;      ///< [T][k] second result; NaN is 0x7fffffff
};

/// Results of combine, staged or zero-copy, along the routing in `answers`.
std::vector<RankResult> combine_answer(const Case& c, const std::vector<RankAnswer>& answers,
                                       const std::vector<RankOutput>& outputs);

/// Results of combine_fused. `landings[r]` are the combine slots of home rank r, at least [T * k] rows, row token * k +
/// j. The second result sums the dispatched weights over ranks as in combine_answer. Tokens past the routing's T give
/// +0.
std::vector<RankResult> fused_answer(const Case& c, const std::vector<RankAnswer>& answers,
                                     const std::vector<std::span<const std::uint8_t>>& landings, int num_tokens = -1);

/// `values` after a conversion to the form on the link and back. CombineQuant::none: rounded to `dtype`.
std::vector<float> through_wire(CombineQuant combine_quant, Dtype dtype, const std::vector<float>& values);

/// fp8_blockwise: least e >= -127 with max |finite value| <= 448 * 2^e; 0 if no finite value is nonzero.
int block_exponent(std::span<const float> block);

}  // namespace crossdock::oracle
