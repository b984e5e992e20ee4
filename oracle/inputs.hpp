// SPDX-License-Identifier: Apache-2.0
// Inputs for tests, fuzzers and benchmarks. Values are formulas of (seed, rank, token, column), equal with every
// compiler, so that the bytes of a wrong row identify its token. Routings have names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "oracle/answer.hpp"

/* name, the ids of a token. Where k is above the number of distinct experts, the ids left over are -1. */
#define XD_ORACLE_ROUTINGS(X)                                                                               \
  X(random, "k distinct experts of all")                                                                    \
  X(distinct_ranks, "k distinct ranks while there are any, a random expert on each; then distinct experts") \
  X(hot_spot, "experts 0 to k-1, every token")                                                              \
  X(soft_hot, "an expert of rank 0, then as distinct_ranks over the other ranks")                           \
  X(zipf, "k distinct experts, the n-th favourite drawn in proportion to n^-1.2")                           \
  X(all_to_one, "k distinct experts of one rank, the same for all tokens")                                  \
  X(duplicates, "random, half of the ids repeat an earlier id of the token")                                \
  X(holes, "random, a quarter of the ids and every id of an eighth of the tokens are -1")                   \
  X(bad, "random, a quarter of the ids lie outside [-1, E), within int32")                                  \
  X(bad64, "random, a quarter of the ids lie outside [-1, E), some only seen in 64 bits")                   \
  X(idle_rank, "k distinct experts of all ranks but one")                                                   \
  X(mixed, "each token follows one of the above except bad64")

/* name, the values */
#define XD_ORACLE_FILLS(X)                                                   \
  X(moderate, "finite, 1/8 to 4 in magnitude, both signs")                   \
  X(integers, "-4 to 4, so that small sums are exact in every order")        \
  X(all_codes, "every code of the type, NaN, Inf and subnormals among them") \
  X(edges, "blocks of 128 columns that are zero, tiny, huge, moderate, or spiked with Inf, NaN and zeros")

namespace crossdock::oracle {

#define XD_ORACLE_ENUMERATOR(name, ...) name,
enum class Routing : std::uint8_t { XD_ORACLE_ROUTINGS(XD_ORACLE_ENUMERATOR) };
enum class Fill : std::uint8_t { XD_ORACLE_FILLS(XD_ORACLE_ENUMERATOR) };
#undef XD_ORACLE_ENUMERATOR

#define XD_ORACLE_VALUE(name, ...) Routing::name,
inline constexpr Routing kRoutings[] = {XD_ORACLE_ROUTINGS(XD_ORACLE_VALUE)};
#undef XD_ORACLE_VALUE
#define XD_ORACLE_VALUE(name, ...) Fill::name,
inline constexpr Fill kFills[] = {XD_ORACLE_FILLS(XD_ORACLE_VALUE)};
#undef XD_ORACLE_VALUE

std::string_view name_of(Routing routing);
std::string_view name_of(Fill fill);
std::optional<Routing> routing_named(std::string_view name);
std::optional<Fill> fill_named(std::string_view name);

/// A recipe for the inputs of all ranks. `tokens` has one T per rank; empty: M on every rank.
struct Recipe {
  Routing routing = Routing::random;
  Fill fill = Fill::moderate;
  std::uint64_t seed = 42;
  bool weights = true;                ///< false: RankInput::weights stays empty
  Fill weight_fill = Fill::moderate;  ///< moderate weights are positive
  std::vector<int> tokens = {};
};

/// The inputs of all ranks.
std::vector<RankInput> make_inputs(const Case& c, const Recipe& recipe);

/// T per rank, 0 to M: for two ranks or more one of them has 0, another M; all else by the seed. One rank: by the seed.
std::vector<int> ragged_tokens(int num_ranks, int max_tokens_per_rank, std::uint64_t seed);

/// [num_tokens][k] ids of one rank.
std::vector<std::int64_t> make_ids(const Case& c, Routing routing, std::uint64_t seed, int rank, int num_tokens);

/// The formulas of single elements; tests and device kernels use them too.
std::uint32_t token_code(Dtype dtype, Fill fill, std::uint64_t seed, int rank, int token, std::int64_t column);
float token_weight(Fill fill, std::uint64_t seed, int rank, int token, int j);
std::uint8_t scale_byte(std::uint64_t seed, int rank, int token, int index);
/// Element of the expert output of rank `owner`. `expert`: the global id; -1: the output of a token-major row.
std::uint32_t output_code(Dtype dtype, Fill fill, std::uint64_t seed, int owner, const RowSource& source, int expert,
                          std::int64_t column);
/// Element of the combine slot that a fused kernel writes for id j of a token.
std::uint32_t landing_code(Dtype dtype, Fill fill, std::uint64_t seed, int home, int token, int j, std::int64_t column);

/// Expert outputs of rank `rank` in the layout of the case, up to the last filled row; padding between is 0xff bytes.
std::vector<std::uint8_t> make_outputs(const Case& c, const RankAnswer& answer, int rank, Fill fill,
                                       std::uint64_t seed);

/// Combine slots [T * k] of home rank `home`, all kept ids written; the other rows are 0xff bytes.
std::vector<std::uint8_t> make_landings(const Case& c, const RankAnswer& answer, int home, Fill fill,
                                        std::uint64_t seed);

/// Text for failure messages: the token whose row of dispatch this is, or the tokens that parts of it come from.
std::string whose_row(const Case& c, const std::vector<RankInput>& inputs, const std::uint8_t* row);

}  // namespace crossdock::oracle
