// SPDX-License-Identifier: Apache-2.0
// The worked example of these tests: two ranks, three tokens each, k = 2, four experts (0 and 1 on rank 0, 2 and 3 on
// rank 1), H = 8 in bf16. The tables in the tests were written by hand from this one:
//
//   home  token  ids     what it shows                    rank 0 slot  rank 1 slot
//   0     0      0 2     one row to each rank             0            0
//   0     1      3 1     rank 1 is named first            1            1
//   0     2      1 1     a repeated id: one row           2            -
//   1     0      -1 2    a hole                           -            2
//   1     1      3 3     a repeated id                    -            3
//   1     2      7 0     7 does not exist: counted        3            -
#pragma once

#include <cstring>
#include <vector>

#include "oracle/answer.hpp"
#include "oracle/number.hpp"

namespace crossdock::oracle {

inline Case worked_case() {
  Case c;
  c.num_ranks = 2;
  c.hidden = 8;
  c.num_experts = 4;
  c.top_k = 2;
  c.max_tokens_per_rank = 3;
  c.scale_bytes = 1;
  return c;
}

/// Row of `dtype` whose elements all are `value`.
inline std::vector<std::uint8_t> row_of(Dtype dtype, int hidden, float value) {
  std::vector<std::uint8_t> row(row_bytes_of(dtype, hidden));
  narrow_row(dtype, std::vector<float>(hidden, value), row.data());
  return row;
}

/// Rows with the given values, one value per row.
inline std::vector<std::uint8_t> rows_of(Dtype dtype, int hidden, const std::vector<float>& values) {
  std::vector<std::uint8_t> rows;
  for (float v : values) {
    const std::vector<std::uint8_t> row = row_of(dtype, hidden, v);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

/// Token t of rank r is a row of the value 10 r + t + 1, has scale byte 0x10 r + t, and weights as written.
inline std::vector<RankInput> worked_inputs() {
  std::vector<RankInput> inputs(2);
  inputs[0] = {
      3, rows_of(Dtype::bf16, 8, {1, 2, 3}), {0, 2, 3, 1, 1, 1}, {.5f, .25f, 2, 4, 1, .75f}, {0x00, 0x01, 0x02}};
  inputs[1] = {
      3, rows_of(Dtype::bf16, 8, {11, 12, 13}), {-1, 2, 3, 3, 7, 0}, {8, .125f, 1, 1.5f, 9, 3}, {0x10, 0x11, 0x12}};
  return inputs;
}

/// First element of each row.
inline std::vector<float> firsts(Dtype dtype, int hidden, const std::vector<std::uint8_t>& rows) {
  std::vector<float> values;
  const std::int64_t row_bytes = row_bytes_of(dtype, hidden);
  for (std::size_t at = 0; at + row_bytes <= rows.size(); at += row_bytes) {
    values.push_back(widen_row(dtype, rows.data() + at, hidden)[0]);
  }
  return values;
}

/// {rank, token, combine_slot} of each.
inline std::vector<std::vector<int>> triples(const std::vector<RowSource>& sources) {
  std::vector<std::vector<int>> out;
  for (const RowSource& s : sources) out.push_back({s.rank, s.token, s.combine_slot});
  return out;
}

}  // namespace crossdock::oracle
