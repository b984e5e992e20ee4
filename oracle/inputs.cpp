// SPDX-License-Identifier: Apache-2.0
// Values of tokens, weights, scales and expert outputs. The routings are in routing.cpp.
#include "oracle/inputs.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "oracle/number.hpp"
#include "oracle/random.hpp"

namespace crossdock::oracle {
namespace {

// One stream of random numbers per kind of data.
enum Stream : std::uint64_t { kTokenRows = 1, kWeights, kScales, kOutputs, kLandings, kRagged };

constexpr std::uint64_t word(std::int64_t n) { return static_cast<std::uint64_t>(n); }

// (1 + n/128) * 2^e, e from -3 to 1, built from the bits of an f32.
float moderate(std::uint64_t h) {
  const std::uint32_t exponent = 127 - 3 + static_cast<std::uint32_t>((h >> 8) % 5);
  return std::bit_cast<float>(static_cast<std::uint32_t>(h >> 16 & 1) << 31 | exponent << 23 |
                              static_cast<std::uint32_t>(h & 127) << 16);
}

std::uint32_t sign_of(Dtype dtype, std::uint64_t h) { return (h >> 40 & 1) != 0 ? 1u << (bits_of(dtype) - 1) : 0; }

// A special value of the dtype, or a neighbour of one.
std::uint32_t special(Dtype dtype, std::uint64_t h) {
  const std::uint32_t sign = sign_of(dtype, h);
  const std::uint32_t beyond = encode(dtype, std::numeric_limits<float>::infinity());
  switch ((h >> 20) % 8) {
    case 0:
      return sign | beyond;  // Inf, or the largest value
    case 1:
      return sign | (beyond - 1);  // the largest value, or the one below
    case 2:
      return encode(dtype, std::numeric_limits<float>::quiet_NaN());
    case 3:
      return sign | 1;  // the smallest value
    case 4:
      return sign | 2;
    case 5:
      return encode(dtype, 0.0f);
    case 6:
      return encode(dtype, -0.0f);
    default:
      return encode(dtype, sign != 0 ? -1.0f : 1.0f);
  }
}

// A value of Fill::edges: the block chooses a kind of value for its 128 columns.
std::uint32_t edge(Dtype dtype, std::uint64_t block, std::uint64_t h) {
  switch (block % 6) {
    case 0:
      return encode(dtype, (h & 1) != 0 ? -0.0f : 0.0f);
    case 1:
      return sign_of(dtype, h) | (1 + static_cast<std::uint32_t>((h >> 8) % 4));  // the smallest values
    case 2: {                                                                     // the largest values
      const std::uint32_t beyond = encode(dtype, std::numeric_limits<float>::infinity());
      return sign_of(dtype, h) | (beyond - 1 - static_cast<std::uint32_t>((h >> 8) % 3));
    }
    case 3:
      return (h >> 32) % 16 == 0 ? special(dtype, h) : encode(dtype, moderate(h));
    case 4:
      return special(dtype, h);
    default:
      return encode(dtype, moderate(h));
  }
}

// Element `column` of the row with hash `row`.
std::uint32_t code_of(Dtype dtype, Fill fill, std::uint64_t row, std::int64_t column) {
  const std::uint64_t h = splitmix(row + word(column) * 0xd1342543de82ef95u);
  switch (fill) {
    case Fill::moderate:
      return encode(dtype, moderate(h));
    case Fill::integers:
      return encode(dtype, static_cast<float>(static_cast<int>(h % 9) - 4));
    case Fill::all_codes:
      return static_cast<std::uint32_t>(h >> (64 - bits_of(dtype)));
    case Fill::edges:
      return edge(dtype, hash_of({row, word(column / 128)}), h);
  }
  return 0;
}

std::uint64_t token_row(std::uint64_t seed, int rank, int token) {
  return hash_of({kTokenRows, seed, word(rank), word(token)});
}

std::uint64_t output_row(std::uint64_t seed, int owner, const RowSource& source, int expert) {
  return hash_of({kOutputs, seed, word(owner), word(source.rank), word(source.token), word(expert)});
}

std::uint64_t combine_slot(std::uint64_t seed, int home, int token, int j) {
  return hash_of({kLandings, seed, word(home), word(token), word(j)});
}

void write_row(Dtype dtype, Fill fill, std::uint64_t row, std::int64_t hidden, std::uint8_t* bytes) {
  for (std::int64_t column = 0; column < hidden; ++column)
    write_code(dtype, bytes, column, code_of(dtype, fill, row, column));
}

template <typename Enum, std::size_t kCount>
std::optional<Enum> named(const std::string_view (&names)[kCount], std::string_view name) {
  for (std::size_t i = 0; i < kCount; ++i) {
    if (names[i] == name) return static_cast<Enum>(i);
  }
  return std::nullopt;
}

#define XD_ORACLE_NAME(name, ...) #name,
constexpr std::string_view kRoutingNames[] = {XD_ORACLE_ROUTINGS(XD_ORACLE_NAME)};
constexpr std::string_view kFillNames[] = {XD_ORACLE_FILLS(XD_ORACLE_NAME)};
#undef XD_ORACLE_NAME

}  // namespace

std::string_view name_of(Routing routing) { return kRoutingNames[static_cast<int>(routing)]; }
std::string_view name_of(Fill fill) { return kFillNames[static_cast<int>(fill)]; }
std::optional<Routing> routing_named(std::string_view name) { return named<Routing>(kRoutingNames, name); }
std::optional<Fill> fill_named(std::string_view name) { return named<Fill>(kFillNames, name); }

std::uint32_t token_code(Dtype dtype, Fill fill, std::uint64_t seed, int rank, int token, std::int64_t column) {
  return code_of(dtype, fill, token_row(seed, rank, token), column);
}

float token_weight(Fill fill, std::uint64_t seed, int rank, int token, int j) {
  const std::uint64_t row = hash_of({kWeights, seed, word(rank), word(token)});
  if (fill == Fill::moderate) return static_cast<float>((splitmix(row + word(j)) >> 44) + 1) / 1048576.0f;  // (0, 1]
  return std::bit_cast<float>(code_of(Dtype::f32, fill, row, j));
}

std::uint8_t scale_byte(std::uint64_t seed, int rank, int token, int index) {
  return static_cast<std::uint8_t>(hash_of({kScales, seed, word(rank), word(token), word(index)}));
}

std::uint32_t output_code(Dtype dtype, Fill fill, std::uint64_t seed, int owner, const RowSource& source, int expert,
                          std::int64_t column) {
  return code_of(dtype, fill, output_row(seed, owner, source, expert), column);
}

std::uint32_t landing_code(Dtype dtype, Fill fill, std::uint64_t seed, int home, int token, int j,
                           std::int64_t column) {
  return code_of(dtype, fill, combine_slot(seed, home, token, j), column);
}

std::vector<RankInput> make_inputs(const Case& c, const Recipe& recipe) {
  const std::int64_t row_bytes = row_bytes_of(c.dispatch_dtype, c.hidden);
  std::vector<RankInput> inputs(c.num_ranks);
  for (int r = 0; r < c.num_ranks; ++r) {
    RankInput& in = inputs[r];
    in.num_tokens = recipe.tokens.empty() ? c.max_tokens_per_rank : recipe.tokens.at(r);
    in.rows.resize(in.num_tokens * row_bytes);
    in.ids = make_ids(c, recipe.routing, recipe.seed, r, in.num_tokens);
    for (int t = 0; t < in.num_tokens; ++t) {
      write_row(c.dispatch_dtype, recipe.fill, token_row(recipe.seed, r, t), c.hidden, in.rows.data() + t * row_bytes);
      for (int j = 0; j < c.top_k && recipe.weights; ++j) {
        in.weights.push_back(token_weight(recipe.weight_fill, recipe.seed, r, t, j));
      }
      for (int i = 0; i < c.scale_bytes; ++i) in.scales.push_back(scale_byte(recipe.seed, r, t, i));
    }
  }
  return inputs;
}

std::vector<int> ragged_tokens(int num_ranks, int max_tokens_per_rank, std::uint64_t seed) {
  Random random(hash_of({kRagged, seed}));
  std::vector<int> tokens(num_ranks);
  for (int& t : tokens) t = static_cast<int>(random.below(std::int64_t{max_tokens_per_rank} + 1));
  if (num_ranks >= 2) {
    const std::int64_t full = random.below(num_ranks);
    tokens[full] = max_tokens_per_rank;
    tokens[(full + 1 + random.below(num_ranks - 1)) % num_ranks] = 0;
  }
  return tokens;
}

std::vector<std::uint8_t> make_outputs(const Case& c, const RankAnswer& answer, int rank, Fill fill,
                                       std::uint64_t seed) {
  const std::int64_t row_bytes = row_bytes_of(c.combine_dtype, c.hidden);
  const bool by_token = c.layout == Layout::token_major;
  const std::vector<std::int64_t>& slots = answer.experts.slots;
  std::int64_t num_rows = answer.num_rows;
  if (!by_token) {
    num_rows = static_cast<std::int64_t>(slots.size());
    while (num_rows > 0 && slots[num_rows - 1] < 0) --num_rows;
  }
  std::vector<std::uint8_t> rows(num_rows * row_bytes, 0xff);
  for (std::int64_t slot = 0; by_token && slot < num_rows; ++slot) {
    write_row(c.combine_dtype, fill, output_row(seed, rank, answer.sources[slot], -1), c.hidden,
              &rows[slot * row_bytes]);
  }
  for (int x = 0; !by_token && x < static_cast<int>(answer.expert_counts.size()); ++x) {
    const int expert = rank * experts_per_rank(c) + x;
    for (std::int64_t n = 0; n < answer.expert_counts[x]; ++n) {
      const std::int64_t row = answer.experts.offsets[x] + n;
      const std::uint64_t name = output_row(seed, rank, answer.experts.sources[row], expert);
      write_row(c.combine_dtype, fill, name, c.hidden, &rows[row * row_bytes]);
    }
  }
  return rows;
}

std::vector<std::uint8_t> make_landings(const Case& c, const RankAnswer& answer, int home, Fill fill,
                                        std::uint64_t seed) {
  const std::int64_t row_bytes = row_bytes_of(c.combine_dtype, c.hidden);
  std::vector<std::uint8_t> rows(std::int64_t{answer.num_tokens} * c.top_k * row_bytes, 0xff);
  for (int t = 0; t < answer.num_tokens; ++t) {
    for (int j = 0; j < c.top_k; ++j) {
      if ((answer.kept_ids[t] >> j & 1) == 0) continue;
      std::uint8_t* row = &rows[(std::int64_t{t} * c.top_k + j) * row_bytes];
      write_row(c.combine_dtype, fill, combine_slot(seed, home, t, j), c.hidden, row);
    }
  }
  return rows;
}

std::string whose_row(const Case& c, const std::vector<RankInput>& inputs, const std::uint8_t* row) {
  const std::int64_t row_bytes = row_bytes_of(c.dispatch_dtype, c.hidden);
  std::string text;
  for (std::int64_t first = 0; first < row_bytes;) {  // finds the longest run of bytes that some token has at `first`
    std::int64_t best = 0;
    std::string owner;
    for (std::size_t r = 0; r < inputs.size(); ++r) {
      for (int t = 0; t < inputs[r].num_tokens; ++t) {
        const std::uint8_t* token = inputs[r].rows.data() + t * row_bytes;
        const std::int64_t run = std::mismatch(row + first, row + row_bytes, token + first).first - (row + first);
        if (run <= best) continue;
        best = run;
        owner = "rank " + std::to_string(r) + " token " + std::to_string(t);
      }
    }
    if (best == row_bytes) return owner;
    if (!text.empty()) text += ", ";
    if (best < 4) return text + "no token's from byte " + std::to_string(first);
    text += "bytes " + std::to_string(first) + " to " + std::to_string(first + best - 1) + " of " + owner;
    first += best;
  }
  return text;
}

}  // namespace crossdock::oracle
