// SPDX-License-Identifier: Apache-2.0
#include "problem/verify.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "oracle/number.hpp"

namespace crossdock::tools {
namespace {

/// Collects the first difference.
struct Judge {
  std::string wrong;

  template <class... Values>
  void complain(fmt::format_string<Values...> text, Values&&... values) {
    if (wrong.empty()) wrong = fmt::format(text, std::forward<Values>(values)...);
  }
  template <class... Where>
  void same(std::int64_t is, std::int64_t should, fmt::format_string<Where...> where, Where&&... values) {
    if (is != should)
      complain("{} is {}, should be {}", fmt::format(where, std::forward<Where>(values)...), is, should);
  }
  void same_bits(const void* is, const void* should, std::size_t bytes, const char* what, const char* of,
                 std::int64_t row) {
    if (bytes && std::memcmp(is, should, bytes) != 0) complain("{} of {} {} differ", what, of, row);
  }
  void same_source(const RowSource& is, const RowSource& should, const char* what, std::int64_t row) {
    if (!oracle::same_source(is, should))
      complain("source of {} {} is rank {} token {}, should be rank {} token {}", what, row, is.rank, is.token,
               should.rank, should.token);
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
      memory_.synchronize();
      memory_.machine().copy(chunk_.data(), rows_ + first_ * row_bytes_, chunk_.size());
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

void judge_counts(const oracle::RankAnswer& a, const Received& received, RankMemory& memory, Judge& judge) {
  const Counts& counts = *memory.readable(received.counts(), sizeof(Counts));
  const std::int32_t* expert_counts = received.expert_counts();
  memory.bring(expert_counts, static_cast<std::int64_t>(a.expert_counts.size()), 4);
  judge.same(counts.num_rows, a.num_rows, "num_rows");
  judge.same(counts.rows_needed, a.rows_needed, "rows_needed");
  judge.same(counts.num_tokens, a.num_tokens, "num_tokens");
  judge.same(counts.bad_ids, a.bad_ids, "bad_ids");
  for (std::size_t s = 0; s < a.rows_per_source.size(); ++s) {
    judge.same(counts.rows_per_source[s], a.rows_per_source[s], "rows from rank {}", s);
    judge.same(counts.dropped_per_source[s], a.dropped_per_source[s], "rows dropped from rank {}", s);
  }
  for (std::size_t x = 0; x < a.expert_counts.size(); ++x)
    judge.same(expert_counts[x], a.expert_counts[x], "rows of local expert {}", x);
}

void judge_row(const Data& data, const std::byte* row, const RowSource& source, const char* what, std::int64_t idx,
               Judge& judge) {
  const oracle::Case& c = data.problem.shape;
  const std::uint8_t* should = oracle::received_row(c, data.inputs, source);
  if (std::memcmp(row, should, row_bytes_of(c.dispatch_dtype, c.hidden)) != 0)
    judge.complain("{} {} of rank {} token {} holds {}", what, idx, source.rank, source.token,
                   oracle::whose_row(c, data.inputs, reinterpret_cast<const std::uint8_t*>(row)));
}

/// Rows by token or by expert, their sources and scales. `slot_of(r)`: the oracle's row of scales; -1: row r is padding.
/// `judge_more(r)` compares what else belongs to a row.
template <class Rows, class SlotOf, class JudgeMore>
void judge_rows(const Data& data, int rank, const char* what, const Rows& rows, const std::vector<RowSource>& sources,
                RankMemory& memory, Judge& judge, SlotOf slot_of, JudgeMore judge_more) {
  const oracle::Case& c = data.problem.shape;
  const auto count = static_cast<std::int64_t>(sources.size());
  HostRows host_rows(memory, rows.rows, row_bytes_of(c.dispatch_dtype, c.hidden), count),
      scales(memory, rows.scales, c.scale_bytes, count);
  const RowSource* is = rows.sources;
  memory.bring(is, count, sizeof(RowSource));
  for (std::int64_t r = 0; r < count && judge.wrong.empty(); ++r) {
    judge.same_source(is[r], sources[r], what, r);
    judge_more(r);
    const std::int64_t slot = slot_of(r);
    if (slot < 0 || !judge.wrong.empty()) continue;
    judge_row(data, host_rows.row(r), sources[r], what, r, judge);
    if (c.scale_bytes)
      judge.same_bits(scales.row(r), data.answers[rank].scales.data() + slot * c.scale_bytes, c.scale_bytes, "scales",
                      what, r);
  }
}

void judge_tokens(const Data& data, int rank, TokenRows rows, RankMemory& memory, Judge& judge) {
  const oracle::RankAnswer& a = data.answers[rank];
  const std::int64_t k = data.problem.shape.top_k;
  judge.same(rows.row_capacity, static_cast<std::int64_t>(a.sources.size()), "row_capacity");
  if (!judge.wrong.empty()) return;
  memory.bring(rows.topk_ids, rows.row_capacity, 4 * k);
  memory.bring(rows.topk_weights, rows.row_capacity, 4 * k);
  judge_rows(
      data, rank, "row", rows, a.sources, memory, judge, [&](std::int64_t r) { return r < a.num_rows ? r : -1; },
      [&](std::int64_t r) {
        judge.same_bits(rows.topk_ids + r * k, a.ids.data() + r * k, k * 4, "ids", "row", r);
        judge.same_bits(rows.topk_weights + r * k, a.weights.data() + r * k, k * 4, "weights", "row", r);
      });
}

void judge_experts(const Data& data, int rank, ExpertRows rows, RankMemory& memory, Judge& judge) {
  const oracle::ExpertAnswer& e = data.answers[rank].experts;
  memory.bring(rows.offsets, static_cast<std::int64_t>(e.offsets.size()), 4);
  memory.bring(rows.weights, e.num_rows_max, 4);
  for (std::size_t x = 0; x < e.offsets.size(); ++x)
    judge.same(rows.offsets[x], e.offsets[x], "offset of local expert {}", x);
  judge_rows(
      data, rank, "expert row", rows, e.sources, memory, judge, [&](std::int64_t r) { return e.slots[r]; },
      [&](std::int64_t r) { judge.same_bits(rows.weights + r, e.weights.data() + r, 4, "weight", "expert row", r); });
}

std::string of_rank(const char* op, int rank, const Judge& judge) {
  return judge.wrong.empty() ? "" : fmt::format("{}, rank {}: {}", op, rank, judge.wrong);
}

/// Tokens of a rank that are looked at, spread evenly: some hundred thousand values, which an error of this kind needs no more of.
constexpr int kSample = 32;

/// Calls add(row, weight) with each expert output that combine sums for a token; rows by expert are weighted there.
template <class Add>
void for_each_output(const Data& data, int home, int token, Add add) {
  const oracle::Case& c = data.problem.shape;
  const RowSource source{home, token, 0, 0};
  if (data.problem.path == Path::fused) {
    for (int j = 0; j < c.top_k; ++j)
      if (data.answers[home].kept_ids[token] >> j & 1) add(data.combine_slot(home, token, j), 1.0f);
    return;
  }
  for (const oracle::Destination& to : data.answers[home].destinations[token]) {
    if (to.slot < 0) continue;
    if (c.layout == Layout::token_major) {
      add(data.output_row(to.rank, source, -1), 1.0f);
      continue;
    }
    const oracle::RankAnswer& owner = data.answers[to.rank];
    for (std::int64_t i = to.slot * c.top_k; i < (to.slot + 1) * c.top_k; ++i)
      if (const std::int64_t row = owner.experts.row_of_id[i]; row >= 0)
        add(data.output_row(to.rank, source, owner.ids[i]), owner.experts.weights[row]);
  }
}

}  // namespace

std::string wrong_dispatch(const Data& data, int rank, const Received& received, RankMemory& memory) {
  Judge judge;
  judge_counts(data.answers[rank], received, memory, judge);
  if (judge.wrong.empty()) judge_tokens(data, rank, received.tokens(), memory, judge);
  if (judge.wrong.empty() && received.has_experts()) judge_experts(data, rank, received.experts(), memory, judge);
  return of_rank("dispatch", rank, judge);
}

std::string wrong_rows(const Data& data, int rank, const void* rows, const void* expert_rows, RankMemory& memory) {
  const oracle::RankAnswer& a = data.answers[rank];
  const oracle::ExpertAnswer& e = a.experts;
  const std::int64_t bytes = row_bytes_of(data.problem.shape.dispatch_dtype, data.problem.shape.hidden);
  HostRows by_token(memory, rows, bytes, a.num_rows), by_expert(memory, expert_rows, bytes, e.num_rows_max);
  Judge judge;
  for (std::int64_t r = 0; r < a.num_rows && judge.wrong.empty(); ++r)
    judge_row(data, by_token.row(r), a.sources[r], "row", r, judge);
  for (std::int64_t r = 0; expert_rows && r < e.num_rows_max && judge.wrong.empty(); ++r)
    if (e.slots[r] >= 0) judge_row(data, by_expert.row(r), e.sources[r], "expert row", r, judge);
  return of_rank("dispatch", rank, judge);
}

std::string wrong_combine(const Data& data, int rank, const oracle::RankResult& expected, const void* rows,
                          const float* weights) {
  const oracle::Case& c = data.problem.shape;
  const std::int64_t bytes = data.outputs.row_bytes(), tokens = data.answers[rank].num_tokens, k = c.top_k;
  const auto* is = static_cast<const std::uint8_t*>(rows);
  Judge judge;
  for (std::int64_t t = 0; t < tokens && judge.wrong.empty(); ++t) {
    const std::uint8_t *a = is + t * bytes, *b = expected.rows.data() + t * bytes;
    if (std::memcmp(a, b, bytes) != 0) {
      std::int64_t column = 0;
      const auto code = [&](const std::uint8_t* row) { return oracle::read_code(c.combine_dtype, row, column); };
      while (code(a) == code(b)) ++column;
      judge.complain("token {} column {} is {:#x}, should be {:#x}", t, column, code(a), code(b));
    }
    if (weights) judge.same_bits(weights + t * k, expected.weights.data() + t * k, k * 4, "weights", "token", t);
  }
  return of_rank("combine", rank, judge);
}

double relative_error(const Data& data, const std::vector<oracle::RankResult>& results) {
  const oracle::Case& c = data.problem.shape;
  const std::int64_t bytes = data.outputs.row_bytes();
  double error = 0, whole = 0;
  for (int home = 0; home < c.num_ranks; ++home) {
    const int tokens = data.answers[home].num_tokens, sample = std::min(tokens, kSample);
    for (int i = 0; i < sample; ++i) {
      const int token = static_cast<int>(std::int64_t{tokens} * i / sample);
      std::vector<double> exact(c.hidden);
      for_each_output(data, home, token, [&](const std::byte* row, double weight) {
        const auto* codes = reinterpret_cast<const std::uint8_t*>(row);
        for (int h = 0; h < c.hidden; ++h)
          exact[h] += weight * oracle::decode(c.combine_dtype, oracle::read_code(c.combine_dtype, codes, h));
      });
      const std::uint8_t* is = results[home].rows.data() + token * bytes;
      for (int h = 0; h < c.hidden; ++h) {
        const double off = oracle::decode(c.combine_dtype, oracle::read_code(c.combine_dtype, is, h)) - exact[h];
        error += off * off;
        whole += exact[h] * exact[h];
      }
    }
  }
  return whole > 0 ? std::sqrt(error / whole) : 0;
}

}  // namespace crossdock::tools
