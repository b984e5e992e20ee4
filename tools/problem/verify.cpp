// SPDX-License-Identifier: Apache-2.0
#include "problem/verify.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>

#include "oracle/number.hpp"

namespace crossdock::tools {
namespace {

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Collects the first difference.
struct Judge {
  std::string wrong;

  template <class A, class B>
  void same(const A& is, const B& should, const auto&... where) {
    if (wrong.empty() && static_cast<std::int64_t>(is) != static_cast<std::int64_t>(should))
      wrong = text(where..., " is ", is, ", should be ", should);
  }
  void same_bits(const void* is, const void* should, std::size_t bytes, const auto&... where) {
    if (wrong.empty() && bytes && std::memcmp(is, should, bytes) != 0) wrong = text(where..., " differs");
  }
};

/// Rows of the exchange, a chunk of them at a time where the host cannot read them itself.
class HostRows {
 public:
  HostRows(RankMemory& memory, const void* rows, std::int64_t row_bytes, std::int64_t num_rows)
      : memory_(memory), rows_(static_cast<const std::byte*>(rows)), row_bytes_(row_bytes), num_rows_(num_rows) {}

  const std::byte* row(std::int64_t r) {
    if (memory_.machine().is_host()) return rows_ + r * row_bytes_;
    if (r < first_ || r >= end_) {
      first_ = r;
      end_ = std::min(num_rows_, r + kChunk);
      chunk_.resize(static_cast<std::size_t>((end_ - first_) * row_bytes_));
      memory_.fetch(chunk_.data(), rows_ + first_ * row_bytes_, chunk_.size());
    }
    return chunk_.data() + (r - first_) * row_bytes_;
  }

 private:
  static constexpr std::int64_t kChunk = 512;
  RankMemory& memory_;
  const std::byte* rows_;
  std::int64_t row_bytes_, num_rows_, first_ = 0, end_ = 0;
  std::vector<std::byte> chunk_;
};

/// Makes a pointer of a view one that the host can read.
template <class T>
void bring(RankMemory& memory, const T*& pointer, std::size_t count) {
  if (pointer) pointer = memory.readable(pointer, count * sizeof(T));
}

void judge_counts(const oracle::RankAnswer& a, const Received& received, RankMemory& memory, Judge& judge) {
  const Counts& counts = *memory.readable(received.counts(), sizeof(Counts));
  const std::int32_t* expert_counts = received.expert_counts();
  bring(memory, expert_counts, a.expert_counts.size());
  judge.same(counts.num_rows, a.num_rows, "num_rows");
  judge.same(counts.rows_needed, a.rows_needed, "rows_needed");
  judge.same(counts.num_tokens, a.num_tokens, "num_tokens");
  judge.same(counts.bad_ids, a.bad_ids, "bad_ids");
  for (std::size_t s = 0; s < a.rows_per_source.size(); ++s) {
    judge.same(counts.rows_per_source[s], a.rows_per_source[s], "rows from rank ", s);
    judge.same(counts.dropped_per_source[s], a.dropped_per_source[s], "rows dropped from rank ", s);
  }
  for (std::size_t x = 0; x < a.expert_counts.size(); ++x)
    judge.same(expert_counts[x], a.expert_counts[x], "rows of local expert ", x);
}

std::string difference_of_rows(const Data& data, const std::byte* row, const RowSource& source) {
  const oracle::Case& c = data.problem.shape;
  const std::uint8_t* should = oracle::received_row(c, data.inputs, source);
  if (std::memcmp(row, should, row_bytes_of(c.dispatch_dtype, c.hidden)) == 0) return "";
  return text("of rank ", source.rank, " token ", source.token, " holds ",
              oracle::whose_row(c, data.inputs, reinterpret_cast<const std::uint8_t*>(row)));
}

void judge_tokens(const Data& data, int rank, TokenRows rows, RankMemory& memory, Judge& judge) {
  const oracle::Case& c = data.problem.shape;
  const oracle::RankAnswer& a = data.answers[rank];
  const std::int64_t bytes = row_bytes_of(c.dispatch_dtype, c.hidden), k = c.top_k;
  HostRows host_rows(memory, rows.rows, bytes, a.num_rows), scales(memory, rows.scales, c.scale_bytes, a.num_rows);
  const auto capacity = static_cast<std::size_t>(rows.row_capacity);
  bring(memory, rows.sources, capacity);
  bring(memory, rows.topk_ids, capacity * static_cast<std::size_t>(k));
  bring(memory, rows.topk_weights, capacity * static_cast<std::size_t>(k));
  judge.same(rows.row_capacity, a.sources.size(), "row_capacity");
  for (std::int64_t r = 0; r < rows.row_capacity && judge.wrong.empty(); ++r) {
    if (!oracle::same_source(rows.sources[r], a.sources[r]))
      judge.wrong = text("source of row ", r, " is rank ", rows.sources[r].rank, " token ", rows.sources[r].token,
                         ", should be rank ", a.sources[r].rank, " token ", a.sources[r].token);
    judge.same_bits(rows.topk_ids + r * k, a.ids.data() + r * k, k * 4, "ids of row ", r);
    judge.same_bits(rows.topk_weights + r * k, a.weights.data() + r * k, k * 4, "weights of row ", r);
    if (r >= a.num_rows || !judge.wrong.empty()) continue;
    const std::string row = difference_of_rows(data, host_rows.row(r), a.sources[r]);
    if (!row.empty()) judge.wrong = text("row ", r, " ", row);
    if (c.scale_bytes)
      judge.same_bits(scales.row(r), a.scales.data() + r * c.scale_bytes, c.scale_bytes, "scales of row ", r);
  }
}

void judge_experts(const Data& data, int rank, ExpertRows rows, RankMemory& memory, Judge& judge) {
  const oracle::Case& c = data.problem.shape;
  const oracle::RankAnswer& a = data.answers[rank];
  const oracle::ExpertAnswer& e = a.experts;
  const std::int64_t bytes = row_bytes_of(c.dispatch_dtype, c.hidden);
  const auto most = static_cast<std::size_t>(e.num_rows_max);
  HostRows host_rows(memory, rows.rows, bytes, e.num_rows_max),
      scales(memory, rows.scales, c.scale_bytes, e.num_rows_max);
  bring(memory, rows.offsets, e.offsets.size());
  bring(memory, rows.sources, most);
  bring(memory, rows.weights, most);
  for (std::size_t x = 0; x < e.offsets.size(); ++x)
    judge.same(rows.offsets[x], e.offsets[x], "offset of local expert ", x);
  for (std::int64_t r = 0; r < e.num_rows_max && judge.wrong.empty(); ++r) {
    if (!oracle::same_source(rows.sources[r], e.sources[r]))
      judge.wrong = text("source of expert row ", r, " is rank ", rows.sources[r].rank, " token ",
                         rows.sources[r].token, ", should be rank ", e.sources[r].rank, " token ", e.sources[r].token);
    judge.same_bits(rows.weights + r, e.weights.data() + r, 4, "weight of expert row ", r);
    if (e.slots[r] < 0 || !judge.wrong.empty()) continue;
    const std::string row = difference_of_rows(data, host_rows.row(r), e.sources[r]);
    if (!row.empty()) judge.wrong = text("expert row ", r, " ", row);
    if (c.scale_bytes)
      judge.same_bits(scales.row(r), a.scales.data() + e.slots[r] * c.scale_bytes, c.scale_bytes,
                      "scales of expert row ", r);
  }
}

}  // namespace

std::string wrong_dispatch(const Data& data, int rank, const Received& received, RankMemory& memory) {
  Judge judge;
  judge_counts(data.answers[rank], received, memory, judge);
  if (judge.wrong.empty()) judge_tokens(data, rank, received.tokens(), memory, judge);
  if (judge.wrong.empty() && received.has_experts()) judge_experts(data, rank, received.experts(), memory, judge);
  return judge.wrong.empty() ? "" : text("dispatch, rank ", rank, ": ", judge.wrong);
}

std::string wrong_rows(const Data& data, int rank, const void* rows, RankMemory& memory) {
  const oracle::RankAnswer& a = data.answers[rank];
  const std::int64_t bytes = row_bytes_of(data.problem.shape.dispatch_dtype, data.problem.shape.hidden);
  HostRows host_rows(memory, rows, bytes, a.num_rows);
  for (std::int64_t r = 0; r < a.num_rows; ++r) {
    const std::string row = difference_of_rows(data, host_rows.row(r), a.sources[r]);
    if (!row.empty()) return text("dispatch, rank ", rank, ": row ", r, " ", row);
  }
  return "";
}

std::string wrong_combine(const Data& data, int rank, const oracle::RankResult& expected, const void* rows,
                          const float* weights) {
  const oracle::Case& c = data.problem.shape;
  const std::int64_t bytes = data.outputs.row_bytes(), tokens = data.answers[rank].num_tokens, k = c.top_k;
  const auto* is = static_cast<const std::uint8_t*>(rows);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::uint8_t *a = is + t * bytes, *b = expected.rows.data() + t * bytes;
    if (std::memcmp(a, b, bytes) != 0) {
      std::int64_t column = 0;
      while (oracle::read_code(c.combine_dtype, a, column) == oracle::read_code(c.combine_dtype, b, column)) ++column;
      return text("combine, rank ", rank, ": token ", t, " column ", column, " is 0x", std::hex,
                  oracle::read_code(c.combine_dtype, a, column), ", should be 0x",
                  oracle::read_code(c.combine_dtype, b, column));
    }
    if (weights && std::memcmp(weights + t * k, expected.weights.data() + t * k, k * 4) != 0)
      return text("combine, rank ", rank, ": weights of token ", t, " differ");
  }
  return "";
}

}  // namespace crossdock::tools
